"""Flow++: couplings by mixtures of logistics, whose networks attend (Ho et al., arXiv:1902.00275)."""

import dataclasses
import math

from gdm.errors import ConfigError
from gdm.flows.bijections.bijection import Bijection, Chain
from gdm.flows.bijections.coupling import Checkerboard, Coupling, Halves, Partition, num_outputs
from gdm.flows.bijections.linear import LULinear
from gdm.flows.bijections.logistic_mixture import LogisticMixtureCDF
from gdm.flows.bijections.normalization import ActNorm
from gdm.flows.bijections.reshaping import Reshape, Squeeze, squeezed
from gdm.flows.convolutional_attention import ConvolutionalAttention
from gdm.flows.flow_model import FlowModel
from gdm.flows.layers import vector_coupling


@dataclasses.dataclass(frozen=True)
class FlowPP(FlowModel):
  """Images go through checkerboard couplings, a squeeze, couplings of channels and checkerboard couplings again, with
  no split in between (section 4); before each, activation normalization and an invertible map of the channels.

  Vectors go through as many couplings of halves, with a perceptron. Integers are dequantized variationally (section
  3.1).

  Attributes:
    num_steps: couplings of each of the three stages.
    num_components: of each mixture.
    width: channels inside of an image's networks.
    num_blocks: blocks of those.
    num_heads: of their attention; 0 for none.
    hidden: sizes of the hidden layers of a vector's networks.
    activation: of a vector's networks.
    dropout: rate on hidden units.

  Example:
    model = FlowPP(DataSpec((28, 28, 1), 256), width=48)
  """

  dequantization: str = "variational"
  num_steps: tuple[int, int, int] = (4, 2, 3)
  num_components: int = 8
  width: int = 48
  num_blocks: int = 2
  num_heads: int = 4
  hidden: tuple[int, ...] = (64, 64)
  activation: str = "relu"
  dropout: float = 0.0

  @property
  def bijection(self) -> Bijection:
    if len(self.num_steps) != 3 or min(self.num_steps) < 1:
      raise ConfigError(f"num_steps is {self.num_steps}; it must be three numbers of at least 1, one a stage.")
    return self._of_images() if self.spec.is_image else self._of_vectors()

  @property
  def transform(self) -> LogisticMixtureCDF:
    return LogisticMixtureCDF(self.num_components)

  def _of_vectors(self) -> Bijection:
    dims, steps = math.prod(self.spec.event), []
    for i in range(sum(self.num_steps)):
      steps += [ActNorm(), LULinear(i), vector_coupling(Halves(), self.transform, dims, self.hidden, self.context_width,
                                                        False, self.activation, self.dropout)]
    return Chain([Reshape(tuple(self.spec.event)), *steps, ActNorm()])

  def _of_images(self) -> Bijection:
    event = tuple(self.spec.event)
    wide = squeezed(event)
    full, channels, last = self.num_steps
    return Chain([*self._steps([Checkerboard(flip=i % 2 == 1) for i in range(full)], event), Squeeze(),
                  *self._steps([Halves(flip=i % 2 == 1) for i in range(channels)], wide),
                  *self._steps([Checkerboard(flip=i % 2 == 1) for i in range(last)], wide), Reshape(wide)])

  def _steps(self, partitions: list[Partition], event: tuple[int, ...]) -> list[Bijection]:
    return [step for i, partition in enumerate(partitions)
            for step in (ActNorm(), *([LULinear(i)] if event[-1] > 1 else []), self._coupling(partition, event))]

  def _coupling(self, partition: Partition, event: tuple[int, ...]) -> Coupling:
    network = ConvolutionalAttention(num_outputs(partition, self.transform, event), self.width, self.num_blocks,
                                     self.num_heads, self.context_width, self.dropout)
    return Coupling(partition, self.transform, network)
