"""Convolutional encoders and decoders of images."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.errors import SpecError
from gdm.networks.activations import activation
from gdm.networks.convolution import Convolution
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear
from gdm.networks.upsampling import KINDS, Upsampling
from gdm.stages import end_of_stage


class ConvolutionalEncoder(nn.Module):
  """3x3 convolutions, each at half the size of the one before, then a hidden layer -> features.

  A context is spread over the image as channels of its own.

  Attributes:
    widths: channels of the convolutions; the first keeps the image's size.
    hidden: units of the layer after them.
    activation: of all layers.
    outputs: features of each example.
  """

  widths: tuple[int, ...] = (32, 64, 64)
  hidden: int = 256
  activation: str = "relu"
  outputs: int = from_data(1)

  def __post_init__(self) -> None:
    checks.sizes("encoder.widths", self.widths)
    checks.at_least("encoder.hidden", self.hidden, 1)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch features"]:
    if x.ndim != 4:
      raise SpecError(f"the convolutional encoder needs images of (height, width, channels), but events have shape "
                      f"{x.shape[1:]}; choose encoder.name=mlp.")
    act, h = activation(self.activation), x
    if context is not None:
      h = jnp.concatenate([h, jnp.broadcast_to(context[:, None, None], (*h.shape[:3], context.shape[-1]))], axis=-1)
    for i, width in enumerate(self.widths):
      # A rectifier halves the second moment.
      made = Convolution(width, stride=1 + (i > 0), scale=1.0 if i == 0 else 2.0**0.5, name=f"convolution_{i}")(h)
      h = end_of_stage(act(made))
    h = h.reshape(h.shape[0], -1)
    h = act(Linear(self.hidden, (2.0 / h.shape[1])**0.5, use_bias=True, name="hidden")(h))
    return Linear(self.outputs, self.hidden**-0.5, use_bias=True, name="last")(h)


class ConvolutionalDecoder(nn.Module):
  """A hidden layer, a small image, and layers that double its size -> numbers at every pixel.

  Sizes are those of an encoder with the same widths, in reverse; what is doubled beyond an odd size is cut off.

  Attributes:
    widths: channels from the smallest image to the largest.
    hidden: units of the layer before them.
    activation: of all layers.
    upsampling: how images are doubled: transposed or resize.
    places: height and width of the images.
    outputs: numbers at each pixel.
  """

  widths: tuple[int, ...] = (64, 64, 32)
  hidden: int = 256
  activation: str = "relu"
  upsampling: str = "transposed"
  places: tuple[int, ...] = from_data((1, 1))
  outputs: int = from_data(1)

  def __post_init__(self) -> None:
    checks.sizes("decoder.widths", self.widths)
    checks.at_least("decoder.hidden", self.hidden, 1)
    checks.one_of("decoder.upsampling", self.upsampling, KINDS)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, z: Float[Array, "batch dims"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch *numbers"]:
    if len(self.places) != 2:
      raise SpecError(f"the convolutional decoder makes images, but the places of an example are {self.places}; choose "
                      "decoder.name=mlp.")
    act = activation(self.activation)
    sides = [tuple(-(-side // 2**i) for side in self.places) for i in range(len(self.widths))]
    h = z if context is None else jnp.concatenate([z, context], axis=1)
    h = act(Linear(self.hidden, (1.0 / h.shape[1])**0.5, use_bias=True, name="hidden")(h))
    rows, columns = sides[-1]
    h = Linear(rows * columns * self.widths[0], (2.0 / self.hidden)**0.5, use_bias=True, name="image")(h)
    h = end_of_stage(act(h).reshape(-1, rows, columns, self.widths[0]))
    for i, width in enumerate(self.widths[1:]):
      rows, columns = sides[-2 - i]
      h = Upsampling(width, self.upsampling, scale=2.0**0.5, name=f"upsampling_{i}")(h)[:, :rows, :columns]
      h = end_of_stage(act(h))
    return Convolution(self.outputs, scale=0.1, name="last")(h)
