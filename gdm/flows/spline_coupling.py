"""Neural spline flow of couplings: RQ-NSF (C) of Durkan et al., arXiv:1906.04032."""

import dataclasses
import math

from gdm import checks
from gdm.flows.bijections.bijection import Bijection, Chain
from gdm.flows.bijections.coupling import Halves
from gdm.flows.bijections.linear import LULinear
from gdm.flows.bijections.normalization import ActNorm
from gdm.flows.bijections.reshaping import Reshape
from gdm.flows.bijections.transforms import Affine, RationalQuadratic
from gdm.flows.flow_model import FlowModel
from gdm.flows.layers import image_coupling, learned_prior, squeezed_scales, vector_coupling


@dataclasses.dataclass(frozen=True)
class SplineCoupling(FlowModel):
  """Steps of activation normalization, an invertible linear map and a coupling of rational-quadratic splines.

  Images go through scales as in Glow, of which what leaves has a learned prior (section 4.3); vectors through as many
  steps as one scale has.

  Attributes:
    num_scales: of images.
    num_steps: of each scale.
    num_bins: of each spline.
    bound: half the width of the interval that splines cover.
    width: channels inside of an image's networks.
    num_blocks: residual blocks of those.
    hidden: sizes of the hidden layers of a vector's networks.
    residual: whether each of these but the first adds to the one below.
    activation: of hidden units.
    dropout: rate on hidden units.

  Example:
    model = SplineCoupling(DataSpec((2,), None), num_steps=4)
  """

  num_scales: int = 2
  num_steps: int = 6
  num_bins: int = 8
  bound: float = 3.0
  width: int = 64
  num_blocks: int = 1
  hidden: tuple[int, ...] = (64, 64)
  residual: bool = False
  activation: str = "relu"
  dropout: float = 0.0

  @property
  def bijection(self) -> Bijection:
    for name in ("num_scales", "num_steps"):
      checks.at_least(name, getattr(self, name), 1)
    transform, context = RationalQuadratic(self.num_bins, self.bound), self.context_width
    if self.spec.is_image:
      def at(event):
        return self._steps(lambda: image_coupling(Halves(), transform, event, self.width, self.num_blocks, context,
                                                  self.activation, self.dropout))

      return squeezed_scales(tuple(self.spec.event), self.num_scales, lambda event: (), at,
                             learned_prior(Affine(), context))
    dims = math.prod(self.spec.event)
    steps = self._steps(lambda: vector_coupling(Halves(), transform, dims, self.hidden, context, self.residual,
                                                self.activation, self.dropout))
    return Chain([Reshape(tuple(self.spec.event)), *steps, ActNorm()])

  def _steps(self, coupling) -> list[Bijection]:
    return [step for i in range(self.num_steps) for step in (ActNorm(), LULinear(i), coupling())]
