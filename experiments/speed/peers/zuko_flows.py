"""zuko's side of flows, run by the python of an environment of its own; nothing here imports it."""

import zuko  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import Case, serve
from experiments.speed.peers.torch_step import tasks

FLOWS = {"coupling": lambda case, **fields: zuko.flows.RealNVP(case.context, **fields),
         "maf": lambda case, **fields: zuko.flows.MAF(case.context, **fields),
         "spline": lambda case, **fields: zuko.flows.NSF(case.context, bins=case.levels, **fields)}


def build(case: Case):
  flow = FLOWS[case.model](case, transforms=case.num_layers, hidden_features=(case.width, case.width))
  return tasks(case, flow, lambda x: flow().log_prob(x), lambda num: flow().sample((num,)))


if __name__ == "__main__":
  serve(build)
