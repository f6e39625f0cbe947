"""PixelCNN++: its network of two streams at several resolutions (Salimans et al., arXiv:1701.05517, section 2).

An encoder goes to coarser resolutions, a decoder back, with short cuts from the one to the other. A coarse pixel is
computed with the first of the 2 x 2 fine ones that it stands for, and knows no more than that one; so the others, which
come later, may use it, and no resolution needs a shift of its own. Weights are not normalized.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from gdm.networks.dropout import dropout_scale
from gdm.networks.masked_convolution import (
    HERE,
    MaskedConvolution,
    above,
    above_and_left,
    neighbours,
    strictly_above,
)
from gdm.networks.pixel_codes import PixelBias, image_codes
from gdm.networks.pixelcnn_pp_blocks import Layer, Streams, before


class Scale(nn.Module):
  """What the encoder and the decoder do at one resolution, and between it and the next coarser one.

  Attributes:
    width: units of each stream.
    kernel_size: of the convolutions.
    num_blocks: layers of the encoder.
    num_layers: how many layers add up, at all resolutions.
    is_coarsest: whether there is no coarser one.
    dropout: rate within the blocks.
  """

  width: int
  kernel_size: int
  num_blocks: int
  num_layers: int
  is_coarsest: bool
  dropout: float

  def setup(self) -> None:
    def layers(num: int, has_short_cut: bool) -> list[Layer]:
      return [Layer(self.width, self.kernel_size, self.num_layers, has_short_cut, self.dropout) for _ in range(num)]

    self.encoder = layers(self.num_blocks, False)
    # One for each state that the encoder went through. At the coarsest, the last is where the decoder starts.
    self.decoder = layers(self.num_blocks + (not self.is_coarsest), True)
    if not self.is_coarsest:
      self.shrink_down = MaskedConvolution(self.width, above(self.kernel_size))
      self.shrink_right = MaskedConvolution(self.width, before(self.kernel_size))
      self.grow_down = MaskedConvolution(4 * self.width, HERE)
      self.grow_right = MaskedConvolution(4 * self.width, HERE)

  def shrink(self, x: Streams) -> Streams:
    """The streams at every second row and column."""
    down, right = (convolution.of_taps(neighbours(y, convolution.taps)[:, ::2, ::2])
                   for convolution, y in zip((self.shrink_down, self.shrink_right), x, strict=True))
    return Streams(down, right)

  def grow(self, x: Streams) -> Streams:
    """Back to twice as many rows and columns."""
    batch, height, columns, width = x.down.shape
    down, right = (
        jnp.swapaxes(convolution(y).reshape(batch, height, columns, 2, 2, width), 2, 3)
        .reshape(batch, 2 * height, 2 * columns, width)
        for convolution, y in zip((self.grow_down, self.grow_right), x, strict=True))
    return Streams(down, right)

  def encode(self, x: Streams, keys: list) -> list[Streams]:
    """x and what each layer makes of it."""
    states = [x]
    for layer, key in zip(self.encoder, keys, strict=True):
      states.append(layer(states[-1], None, key))
    return states

  def decode(self, x: Streams, states: list[Streams], keys: list) -> Streams:
    """`states` are the encoder's that have no use yet, the last of which is the first to be used."""
    for layer, short, key in zip(self.decoder, reversed(states), keys, strict=True):
      x = layer(x, short, key)
    return x


class PixelCNNPPNetwork(nn.Module):
  """Images to outputs per pixel, from which a distribution of the pixel is made.

  Attributes:
    event: (height, width, channels).
    levels: values of a channel of a pixel.
    outputs: per pixel.
    width: units of each stream.
    num_blocks: layers of the encoder per resolution.
    num_scales: resolutions; each but the first has half as many rows and columns as the one before.
    first_size: kernel size of the first layer.
    kernel_size: of the others.
    located: whether both streams start with a bias for each pixel.
    input_dropout: rate on pixels as inputs.
    dropout: rate within the blocks.
  """

  event: tuple[int, int, int]
  levels: int
  outputs: int
  width: int
  num_blocks: int
  num_scales: int
  first_size: int
  kernel_size: int
  located: bool
  input_dropout: float
  dropout: float

  def setup(self) -> None:
    self.first_down = MaskedConvolution(self.width, strictly_above(self.first_size))
    self.first_right = MaskedConvolution(self.width, above_and_left(self.first_size))
    if self.located:
      self.place = PixelBias(*self.event[:2], 2 * self.width)
    num_layers = 2 * self.num_scales * self.num_blocks + self.num_scales - 1
    self.scales = [Scale(self.width, self.kernel_size, self.num_blocks, num_layers, i == self.num_scales - 1,
                         self.dropout) for i in range(self.num_scales)]
    self.readout = MaskedConvolution(self.outputs, HERE)

  def __call__(self, x: Num[Array, "batch height columns channels"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch height columns outputs"]:
    """Outputs of each pixel from the pixels before it in raster order; a key means training."""
    return self.of_codes(image_codes(x, self.levels), key)

  def of_codes(self, codes: Float[Array, "batch height columns inputs"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch height columns outputs"]:
    """The same, from the values' codes."""
    first, *keys = [None] * (self.num_scales + 1) if key is None else jax.random.split(key, self.num_scales + 1)
    codes = codes * dropout_scale(first, (*codes.shape[:-1], 1), self.input_dropout)
    down_place, right_place = jnp.split(self.place(), 2, axis=-1) if self.located else (0.0, 0.0)
    x = Streams(self.first_down(codes) + down_place, self.first_right(codes) + right_place)
    return self.readout(jax.nn.elu(self._from_scale(0, x, keys).right))

  def _from_scale(self, i: int, x: Streams, keys: list) -> Streams:
    """Encoder and decoder from one resolution on to the coarsest and back."""
    scale, num = self.scales[i], self.num_blocks
    own = [None] * (2 * num + 1) if keys[i] is None else list(jax.random.split(keys[i], 2 * num + 1))
    states = scale.encode(x, own[:num])
    if scale.is_coarsest:
      return scale.decode(states[-1], states[:-1], own[num:-1])
    x = scale.grow(self._from_scale(i + 1, scale.shrink(states[-1]), keys))
    return scale.decode(x, states, own[num:])
