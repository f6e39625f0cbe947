"""RealNVP: affine couplings, of images at several scales (Dinh et al., arXiv:1605.08803)."""

import dataclasses
import math

from gdm import checks
from gdm.flows.bijections.bijection import Bijection, Chain
from gdm.flows.bijections.coupling import Alternate, Checkerboard, Halves
from gdm.flows.bijections.reshaping import Reshape
from gdm.flows.bijections.transforms import Affine
from gdm.flows.flow_model import FlowModel
from gdm.flows.layers import image_coupling, normalization, squeezed_scales, vector_coupling


@dataclasses.dataclass(frozen=True)
class RealNVP(FlowModel):
  """Images go through scales of three checkerboard couplings, a squeeze, and three couplings of channels (section 3.6).

  Half of the channels leave after each scale but the last, which is like the others (the paper's has four checkerboard
  couplings alone). Other events are flattened, and even and odd entries take turns.

  Attributes:
    num_scales: of images.
    num_layers: couplings of vectors.
    width: channels inside of an image's networks.
    num_blocks: residual blocks of those.
    hidden: sizes of the hidden layers of a vector's networks.
    normalization: after each coupling: batch (as in the paper), act, or none.
    bound: of the log-scale of one coupling.
    activation: of hidden units.
    dropout: rate on hidden units.

  Example:
    model = RealNVP(DataSpec((28, 28, 1), 256), num_scales=2, width=32)
  """

  num_scales: int = 2
  num_layers: int = 8
  width: int = 64
  num_blocks: int = 2
  hidden: tuple[int, ...] = (64, 64)
  normalization: str = "batch"
  bound: float = 3.0
  activation: str = "relu"
  dropout: float = 0.0

  @property
  def bijection(self) -> Bijection:
    for name in ("num_scales", "num_layers"):
      checks.at_least(name, getattr(self, name), 1)
    return self._of_images() if self.spec.is_image else self._of_vectors()

  def _of_vectors(self) -> Bijection:
    dims, steps = math.prod(self.spec.event), []
    for i in range(self.num_layers):
      steps += [vector_coupling(Alternate(flip=i % 2 == 1), Affine(self.bound), dims, self.hidden, self.context_width,
                                False, self.activation, self.dropout), *normalization(self.normalization)]
    return Chain([Reshape(tuple(self.spec.event)), *steps])

  def _of_images(self) -> Bijection:
    def before(event):
      return self._steps([Checkerboard(flip=i % 2 == 1) for i in range(3)], event)

    def after(event):
      return self._steps([Halves(flip=i % 2 == 1) for i in range(3)], event)

    return squeezed_scales(tuple(self.spec.event), self.num_scales, before, after, lambda channels: None)

  def _steps(self, partitions, event) -> list[Bijection]:
    return [step for partition in partitions for step in (
        image_coupling(partition, Affine(self.bound), event, self.width, self.num_blocks, self.context_width,
                       self.activation, self.dropout), *normalization(self.normalization))]
