"""Convolutional generators and critics, as of DCGAN (Radford, Metz and Chintala, arXiv:1511.06434)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.adversarial.networks.layers import OF_CRITICS, OF_GENERATORS, normalized, weighted
from gdm.adversarial.networks.scores import LABELS, score
from gdm.errors import SpecError
from gdm.networks.activations import activation
from gdm.networks.convolution import Convolution
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear
from gdm.networks.upsampling import KINDS, Upsampling
from gdm.stages import end_of_stage

SMALLEST = 7  # sides are halved until none is longer


def sides_of(event: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
  """Return heights and widths from the image's down, each half of the one before, rounded up.

  Raise SpecError where an event is no image.
  """
  if len(event) != 3:
    raise SpecError(f"a convolutional generator or critic needs images of (height, width, channels), but events have "
                    f"shape {event}; choose generator.name=mlp and critic.name=mlp.")
  sides = [(event[0], event[1])]
  while max(sides[-1]) > SMALLEST:
    sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
  return tuple(sides)


class ConvolutionalGenerator(nn.Module):
  """Latents, and labels beside them -> a small image of many channels -> layers that double its size -> an image.

  What is doubled beyond an odd size is cut off.

  Attributes:
    width: channels of the last hidden layer; every smaller image before it has twice as many.
    max_width: most channels.
    activation: of the hidden layers.
    normalization: of the hidden layers: none or batch.
    upsampling: how images are doubled: transposed convolutions, or resize and convolve.
    event: shape of an example.
  """

  width: int = 32
  max_width: int = 256
  activation: str = "relu"
  normalization: str = "batch"
  upsampling: str = "transposed"
  event: tuple[int, ...] = from_data((1, 1, 1))

  def __post_init__(self) -> None:
    checks.at_least("generator.width", self.width, 1)
    checks.at_least("generator.max_width", self.max_width, 1)
    checks.one_of("generator.normalization", self.normalization, OF_GENERATORS)
    checks.one_of("generator.upsampling", self.upsampling, KINDS)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, z: Float[Array, "batch dims"], labels: Float[Array, "batch classes"] | None = None,
               train: bool = False) -> Float[Array, "batch *event"]:
    act, sides = activation(self.activation), sides_of(self.event)
    widths = [min(self.width * 2**i, self.max_width) for i in range(len(sides))]
    h = z if labels is None else jnp.concatenate([z, labels], axis=1)
    (rows, columns), width = sides[-1], widths[-1]
    h = Linear(rows * columns * width, (2.0 / h.shape[1]) ** 0.5, use_bias=True, name="image")(h)
    h = act(normalized(self.normalization, h.reshape(-1, rows, columns, width), train, "normalization"))
    for i in reversed(range(len(sides) - 1)):
      rows, columns = sides[i]
      h = Upsampling(widths[i], self.upsampling, scale=2.0**0.5, name=f"upsampling_{i}")(h)[:, :rows, :columns]
      h = end_of_stage(act(normalized(self.normalization, h, train, f"normalization_{i}")))
    return Convolution(self.event[-1], name="last")(h)


class ConvolutionalCritic(nn.Module):
  """Images, and labels spread over them as channels -> layers that halve their size -> scores.

  Attributes:
    width: channels of the first layer; every smaller image after it has twice as many.
    max_width: most channels.
    activation: of the layers.
    normalization: none; batch, as in the paper, or layer, of all layers but the first; or spectral, of the weights.
    labels: concatenate them as channels, or projection: of the last layer (arXiv:1802.05637).
  """

  width: int = 32
  max_width: int = 256
  activation: str = "leaky_relu"
  normalization: str = "none"
  labels: str = "concatenate"

  def __post_init__(self) -> None:
    checks.at_least("critic.width", self.width, 1)
    checks.at_least("critic.max_width", self.max_width, 1)
    checks.one_of("critic.normalization", self.normalization, OF_CRITICS)
    checks.one_of("critic.labels", self.labels, LABELS)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"], labels: Float[Array, "batch classes"] | None = None,
               train: bool = False) -> Float[Array, " batch"]:
    act, sides, h = activation(self.activation), sides_of(x.shape[1:]), x
    if labels is not None and self.labels == "concatenate":
      h = jnp.concatenate([h, jnp.broadcast_to(labels[:, None, None], (*h.shape[:3], labels.shape[-1]))], axis=-1)
    for i in range(len(sides)):
      width = min(self.width * 2**i, self.max_width)
      layer = Convolution(width, stride=1 + (i > 0), scale=1.0 if i == 0 else 2.0**0.5, name=f"convolution_{i}")
      h = weighted(self.normalization, layer, h, train)
      h = end_of_stage(act(h if i == 0 else normalized(self.normalization, h, train, f"normalization_{i}")))
    return score(h.reshape(h.shape[0], -1), labels, self.labels, self.normalization, train)
