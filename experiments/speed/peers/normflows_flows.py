"""normflows' side of flows, run by the python of an environment of its own; nothing here imports it.

Its masked layers lead from the base to the data in one pass; they are turned round, so that the density takes one pass
as everybody's does.
"""

import normflows as nf  # pyright: ignore[reportMissingImports]
from normflows.flows.base import Reverse  # pyright: ignore[reportMissingImports]
from normflows.flows.neural_spline import autoregressive  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import Case, serve
from experiments.speed.peers.torch_step import tasks

# Of its masked networks: the first hidden layer, and one block that is the second.
MASKED = {"num_blocks": 1, "use_residual_blocks": False}


def coupling(case: Case):
  seen = -(-case.context // 2)
  network = nf.nets.MLP([seen, case.width, case.width, 2 * (case.context - seen)], init_zeros=True)
  return [nf.flows.AffineCouplingBlock(network), nf.flows.Permute(case.context, mode="shuffle")]


def maf(case: Case):
  return [Reverse(nf.flows.MaskedAffineAutoregressive(case.context, case.width, **MASKED)),
          nf.flows.Permute(case.context, mode="shuffle")]


def spline(case: Case):
  masked = autoregressive.MaskedPiecewiseRationalQuadraticAutoregressive(
      case.context, case.width, num_bins=case.levels, tails="linear", tail_bound=3.0, **MASKED)
  return [Reverse(masked), nf.flows.Permute(case.context, mode="shuffle")]


PARTS = {"coupling": coupling, "maf": maf, "spline": spline}


def build(case: Case):
  parts = [part for _ in range(case.num_layers) for part in PARTS[case.model](case)]
  flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(case.context, trainable=False), parts)
  return tasks(case, flow, flow.log_prob, flow.sample)


if __name__ == "__main__":
  serve(build)
