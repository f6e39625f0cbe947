"""FFJORD: a continuous normalizing flow (Grathwohl et al., arXiv:1810.01367), regularized if asked (arXiv:2002.02798).
"""

import dataclasses
import math

from gdm import checks
from gdm.flows.bijections.bijection import Bijection, Chain
from gdm.flows.bijections.continuous import Continuous
from gdm.flows.bijections.normalization import ActNorm
from gdm.flows.bijections.reshaping import Reshape
from gdm.flows.flow_model import FlowModel
from gdm.networks.mlp import MLP
from gdm.networks.residual_convolution import ResidualConvolution


@dataclasses.dataclass(frozen=True)
class FFJORD(FlowModel):
  """Activation normalization, then continuous flows one after the other, whose velocities are smooth networks.

  Log-likelihoods are estimates: a solver finds them, to a tolerance. In training the divergence is that of random
  probes; whether in scoring too is for `exact` to say.

  Attributes:
    num_flows: continuous flows, each over a time of 1 with a network of its own.
    hidden: sizes of the hidden layers of a vector's networks.
    width: channels inside of an image's networks.
    num_blocks: residual blocks of those.
    activation: of hidden units; smooth, since the solver follows derivatives.
    tolerance: of the solver, relative and absolute.
    num_probes: of the divergence, of each example.
    exact: whether scoring takes the exact divergence, which costs a derivative a dimension.
    kinetic: weight of the mean square of the velocity along its path, which straightens it.
    jacobian: weight of the mean square of the velocity's derivative along the probes.

  Example:
    model = FFJORD(DataSpec((2,), None), hidden=(64, 64))
  """

  num_flows: int = 1
  hidden: tuple[int, ...] = (64, 64)
  width: int = 32
  num_blocks: int = 1
  activation: str = "softplus"
  tolerance: float = 1e-4
  num_probes: int = 1
  exact: bool = True
  kinetic: float = 0.01
  jacobian: float = 0.01

  @property
  def bijection(self) -> Bijection:
    checks.at_least("num_flows", self.num_flows, 1)
    checks.at_least("num_probes", self.num_probes, 1)
    return Chain([*self._flat(), ActNorm(), *(self._flow() for _ in range(self.num_flows)),
                  *([Reshape(tuple(self.spec.event))] if self.spec.is_image else [])])

  def _flat(self) -> list[Bijection]:
    return [] if self.spec.is_image else [Reshape(tuple(self.spec.event))]

  def _flow(self) -> Continuous:
    given = 1 + self.context_width
    if self.spec.is_image:
      network = ResidualConvolution(self.spec.event[-1], self.width, self.num_blocks, given, self.activation)
    else:
      network = MLP(math.prod(self.spec.event), self.hidden, context=given, activation=self.activation)
    return Continuous(network, self.tolerance, self.num_probes, 0 if self.exact else self.num_probes, self.kinetic,
                      self.jacobian)
