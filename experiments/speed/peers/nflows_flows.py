"""nflows' side of flows, run by the python of an environment of its own; nothing here imports it."""

from nflows.distributions import StandardNormal  # pyright: ignore[reportMissingImports]
from nflows.flows import Flow  # pyright: ignore[reportMissingImports]
from nflows.nn.nets import MLP  # pyright: ignore[reportMissingImports]
from nflows.transforms import (  # pyright: ignore[reportMissingImports]
    AffineCouplingTransform,
    CompositeTransform,
    MaskedAffineAutoregressiveTransform,
    MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
    ReversePermutation,
)
from nflows.utils import create_alternating_binary_mask  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import Case, serve
from experiments.speed.peers.torch_step import tasks

# Of its masked networks: the first hidden layer, and one block that is the second.
MASKED = {"num_blocks": 1, "use_residual_blocks": False}


class Network(MLP):
  """The conditioner of a coupling, which is given a context that is None."""

  def forward(self, inputs, context=None):
    return super().forward(inputs)


def coupling(case: Case) -> list:
  def network(inputs, outputs):
    return Network((inputs,), (outputs,), [case.width] * 2, F.relu)

  return [AffineCouplingTransform(create_alternating_binary_mask(case.context, even=i % 2 == 0), network)
          for i in range(case.num_layers)]


def maf(case: Case) -> list:
  return [part for _ in range(case.num_layers) for part in (
      ReversePermutation(case.context), MaskedAffineAutoregressiveTransform(case.context, case.width, **MASKED))]


def spline(case: Case) -> list:
  return [part for _ in range(case.num_layers) for part in (
      ReversePermutation(case.context), MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
          case.context, case.width, num_bins=case.levels, tails="linear", tail_bound=3.0, **MASKED))]


PARTS = {"coupling": coupling, "maf": maf, "spline": spline}


def build(case: Case):
  flow = Flow(CompositeTransform(PARTS[case.model](case)), StandardNormal([case.context]))
  return tasks(case, flow, flow.log_prob, flow.sample)


if __name__ == "__main__":
  serve(build)
