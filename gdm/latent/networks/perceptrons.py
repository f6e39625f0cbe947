"""Multi-layer perceptrons as encoders and decoders."""

import math

import flax.linen as nn
from jaxtyping import Array, Float

from gdm import checks
from gdm.networks.activations import activation
from gdm.networks.from_data import from_data
from gdm.networks.mlp import MLP


class PerceptronEncoder(nn.Module):
  """Examples, flattened, and a context beside them -> features.

  Attributes:
    hidden: sizes of the hidden layers; () is a linear network.
    activation: of the hidden units.
    dropout: rate on hidden units, where an rng named "dropout" is given.
    outputs: features of each example.
  """

  hidden: tuple[int, ...] = (512, 512)
  activation: str = "relu"
  dropout: float = 0.0
  outputs: int = from_data(1)

  def __post_init__(self) -> None:
    if self.hidden:
      checks.sizes("encoder.hidden", self.hidden)
    checks.rate("encoder.dropout", self.dropout)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch features"]:
    width = 0 if context is None else context.shape[-1]
    network = MLP(self.outputs, self.hidden, context=width, activation=self.activation, dropout=self.dropout,
                  output_scale=1.0, name="network")
    return network(x.reshape(x.shape[0], -1), context)


class PerceptronDecoder(nn.Module):
  """Latents, and a context beside them -> numbers at every place of an example.

  Attributes:
    hidden: sizes of the hidden layers; () is a linear network.
    activation: of the hidden units.
    dropout: rate on hidden units, where an rng named "dropout" is given.
    places: shape of an example's places.
    outputs: numbers at each place.
  """

  hidden: tuple[int, ...] = (512, 512)
  activation: str = "relu"
  dropout: float = 0.0
  places: tuple[int, ...] = from_data((1,))
  outputs: int = from_data(1)

  def __post_init__(self) -> None:
    if self.hidden:
      checks.sizes("decoder.hidden", self.hidden)
    checks.rate("decoder.dropout", self.dropout)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, z: Float[Array, "batch dims"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch *numbers"]:
    width = 0 if context is None else context.shape[-1]
    network = MLP(math.prod(self.places) * self.outputs, self.hidden, context=width, activation=self.activation,
                  dropout=self.dropout, output_scale=0.1, name="network")
    return network(z, context).reshape(z.shape[0], *self.places, self.outputs)
