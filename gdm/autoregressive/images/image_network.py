"""Networks of autoregressive image models: what they have in common, and the checks of their fields."""

import abc
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num, PyTree

from gdm import checks
from gdm.autoregressive.images.masked_convolution import HERE, MaskedConvolution, above_and_left, empty_ring
from gdm.autoregressive.images.pixel_codes import PixelBias, image_codes, num_codes, put_value
from gdm.errors import ConfigError
from gdm.networks.dropout import dropout_scale
from gdm.networks.from_data import from_data


class ImageNetwork(nn.Module, abc.ABC):
  """Images to outputs for each pixel that depend on what comes before it in raster order, channels innermost.

  A network that can be conditional on labels has a field `num_classes`, which the model sets, 0 where it is not.

  Attributes:
    first_size: kernel size of the first convolution, odd.
    located: whether the first layer has a bias for each pixel, for images that are aligned.
    input_dropout: rate on pixels as inputs, in [0, 1): all of a pixel is dropped together.
    dropout: rate within the layers, in [0, 1).
    event: (height, width, channels) of an image.
    levels: values of a channel of a pixel.
    outputs: outputs for each pixel.
  """

  first_size: int = 7
  located: bool = False
  input_dropout: float = 0.0
  dropout: float = 0.0
  event: tuple[int, int, int] = from_data((0, 0, 0))
  levels: int = from_data(0)
  outputs: int = from_data(0)

  # Whether outputs for a channel depend on the channels before it in the pixel, and units lie in groups, one for each
  # channel; else on no channel of the pixel.
  masked_channels: ClassVar[bool] = True

  @abc.abstractmethod
  def outputs_from_codes(self, codes: Float[Array, "batch height columns inputs"], key: Key[Array, ""] | None = None,
                         y: Int[Array, " batch"] | None = None) -> Float[Array, "batch height columns outputs"]:
    """Return each pixel's outputs from the codes of all pixels (see `image_codes`); a key means training."""

  @abc.abstractmethod
  def init_cache(self, num: int, dtype: jnp.dtype, y: Int[Array, " batch"] | None = None) -> PyTree:
    """Return the state of `advance` before the first value of `num` images."""

  @abc.abstractmethod
  def advance(self, variables: Any, cache: PyTree, previous: Int[Array, " batch"],
              index: Int[Array, ""]) -> tuple[Float[Array, "batch outputs"], PyTree]:
    """Return the outputs for the pixel of the value at `index`, and the next cache.

    A pure function of the variables, to be marked `nn.nowrap`: it may branch, between calls of `self.apply`. Where
    channels are masked, each channel of a pixel takes a step through all layers. Those that are not known yet are
    masked, and what they would have changed is written again with the next.

    Args:
      variables: of the network.
      cache: from `init_cache` or the step before.
      previous: the value at index - 1; at index 0 it changes nothing.
      index: steps come in order, from 0.
    """

  def __call__(self, x: Num[Array, "batch height columns channels"], key: Key[Array, ""] | None = None,
               y: Int[Array, " batch"] | None = None) -> Float[Array, "batch height columns outputs"]:
    """Return each pixel's outputs; a key means training."""
    return self.outputs_from_codes(image_codes(x, self.levels), key, y)

  @nn.nowrap
  def check(self, at_least_one: tuple[str, ...] = (), widths: tuple[str, ...] = (),
            kernels: tuple[str, ...] = ("first_size",)) -> None:
    """Raise ConfigError where a field is out of range.

    Args:
      at_least_one: names of the fields that are at least 1.
      widths: names of numbers of units, which the image's channels must divide.
      kernels: names of the fields that are sizes of kernels.
    """
    for name in (*at_least_one, *widths):
      checks.at_least(f"network.{name}", getattr(self, name), 1)
    for name in kernels:
      if (size := getattr(self, name)) < 3 or size % 2 == 0:
        raise ConfigError(f"network.{name} is {size}; it must be odd and at least 3.")
    for name in ("input_dropout", "dropout"):
      checks.rate(f"network.{name}", getattr(self, name))
    if not any(self.event):  # not yet given by a model
      return
    height, width, channels = self.event
    for name in widths:
      checks.multiple_of(f"network.{name}", getattr(self, name), channels, "the image's channels")
    most = 2 * min(height, width) - 1  # the farthest taps of a larger one never see a pixel
    for name in kernels:
      if (size := getattr(self, name)) > most:
        raise ConfigError(f"network.{name} is {size}, which reaches beyond images of {height} x {width}; it must be at "
                          f"most {most}.")


class FramedNetwork(ImageNetwork):
  """A first convolution of mask A, layers that a subclass adds in `setup`, and two layers at each pixel for outputs."""

  def set_up_frame(self, width: int, head_width: int) -> None:
    """Set up the first convolution, of `width` units, and the readout, with `head_width` hidden units."""
    channels = self.event[-1]
    self.first = MaskedConvolution(width, (*above_and_left(self.first_size), *HERE), channels, "A")
    if self.located:
      self.place = PixelBias(*self.event[:2], width)
    self.hidden = MaskedConvolution(head_width, HERE, channels, "B")
    self.readout = MaskedConvolution(self.outputs, HERE, channels, "B")

  def begin(self, codes: Float[Array, "batch height columns inputs"], key: Key[Array, ""] | None, num_layers: int
            ) -> tuple[Float[Array, "batch height columns inputs"], Float[Array, "batch height columns width"], list]:
    """Return the codes after dropout, the first convolution's units, and a key or None for each of the layers."""
    first, *keys = [None] * (num_layers + 1) if key is None else jax.random.split(key, num_layers + 1)
    codes = codes * dropout_scale(first, (*codes.shape[:-1], 1), self.input_dropout)
    return codes, self.first(codes) + (self.place() if self.located else 0.0), keys

  def read_out(self, x: Float[Array, "*shape width"], activation: Any = jax.nn.relu) -> Float[Array, "*shape outputs"]:
    return self.readout(activation(self.hidden(activation(x))))

  def empty_codes(self, num: int, dtype: jnp.dtype) -> Float[Array, "slots batch inputs"]:
    """Return the ring of the codes before the first value."""
    _, columns, channels = self.event
    return empty_ring(above_and_left(self.first_size), columns, num, channels * num_codes(self.levels), dtype)

  @nn.nowrap
  def put_previous(self, codes: Float[Array, "slots batch inputs"], previous: Int[Array, " batch"],
                   index: Int[Array, ""]) -> Float[Array, "slots batch inputs"]:
    """Return the ring of the codes with the value at index - 1."""
    return put_value(codes, previous, index - 1, self.event[-1], self.levels)

  def begin_step(self, codes: Float[Array, "slots batch inputs"], pixel: Int[Array, ""]) -> Float[Array, "batch width"]:
    """Return the first convolution's units at a pixel."""
    return self.first.step(codes, pixel, self.event[1]) + (self.place.at(pixel) if self.located else 0.0)
