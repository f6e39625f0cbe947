"""Glow: steps of activation normalization, a 1x1 convolution and a coupling (Kingma & Dhariwal, arXiv:1807.03039)."""

import dataclasses
import math

from gdm import checks
from gdm.flows.bijections.bijection import Bijection, Chain
from gdm.flows.bijections.coupling import Halves
from gdm.flows.bijections.linear import InvertibleLinear, LULinear
from gdm.flows.bijections.normalization import ActNorm
from gdm.flows.bijections.reshaping import Reshape
from gdm.flows.bijections.transforms import Affine
from gdm.flows.flow_model import FlowModel
from gdm.flows.layers import image_coupling, learned_prior, squeezed_scales, vector_coupling


@dataclasses.dataclass(frozen=True)
class Glow(FlowModel):
  """Images go through scales of a squeeze and `num_steps` steps (figure 2); what leaves has a learned prior.

  Vectors go through `num_steps` steps of the same kind.

  Attributes:
    num_scales: of images.
    num_steps: of each scale.
    width: channels inside of an image's networks.
    num_blocks: residual blocks of those.
    hidden: sizes of the hidden layers of a vector's networks.
    lu: whether the 1x1 convolutions are kept as LU factors (section 3.2).
    bound: of the log-scale of one coupling.
    activation: of hidden units.
    dropout: rate on hidden units.

  Example:
    model = Glow(DataSpec((32, 32, 3), 256), num_scales=3)
  """

  num_scales: int = 2
  num_steps: int = 8
  width: int = 64
  num_blocks: int = 1
  hidden: tuple[int, ...] = (64, 64)
  lu: bool = True
  bound: float = 3.0
  activation: str = "relu"
  dropout: float = 0.0

  @property
  def bijection(self) -> Bijection:
    for name in ("num_scales", "num_steps"):
      checks.at_least(name, getattr(self, name), 1)
    return self._of_images() if self.spec.is_image else self._of_vectors()

  def _of_vectors(self) -> Bijection:
    dims, steps = math.prod(self.spec.event), []
    for i in range(self.num_steps):
      coupling = vector_coupling(Halves(), Affine(self.bound), dims, self.hidden, self.context_width, False,
                                 self.activation, self.dropout)
      steps += [ActNorm(), self._mixing(i), coupling]
    return Chain([Reshape(tuple(self.spec.event)), *steps])

  def _of_images(self) -> Bijection:
    def steps(event):
      return [step for i in range(self.num_steps) for step in (ActNorm(), self._mixing(i), image_coupling(
          Halves(), Affine(self.bound), event, self.width, self.num_blocks, self.context_width, self.activation,
          self.dropout))]

    prior = learned_prior(Affine(self.bound), self.context_width)
    return squeezed_scales(tuple(self.spec.event), self.num_scales, lambda event: (), steps, prior)

  def _mixing(self, seed: int) -> Bijection:
    return LULinear(seed) if self.lu else InvertibleLinear()
