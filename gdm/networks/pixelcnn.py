"""PixelCNN's network: residual blocks of masked convolutions (van den Oord et al., arXiv:1601.06759, section 3)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from gdm.networks.blocks import end_of_block
from gdm.networks.dropout import dropout, dropout_scale
from gdm.networks.masked_convolution import HERE, MaskedConvolution, above_and_left, empty_ring, put
from gdm.networks.pixel_codes import PixelBias, image_codes, num_codes, put_value

Rings = tuple[Float[Array, "_ batch _"], ...]  # slots, units of each


class ResidualBlock(nn.Module):
  """x + W2 relu(masked convolution(relu(W1 relu(x)))): figure 5, left.

  Attributes:
    width: units within the block; x has twice as many.
    kernel_size: of the convolution.
    channels: of the image.
    num_blocks: how many blocks add up; the weights that add start with a standard deviation divided by its root.
    dropout: rate on what is added, before its last layer.
  """

  width: int
  kernel_size: int
  channels: int
  num_blocks: int
  dropout: float

  def setup(self) -> None:
    self.narrow = MaskedConvolution(self.width, HERE, self.channels, "B")
    self.convolution = MaskedConvolution(self.width, self.offsets, self.channels, "B",
                                         math.sqrt(2.0 / (len(self.offsets) * self.width)))
    self.widen = MaskedConvolution(2 * self.width, HERE, self.channels, "B",
                                   math.sqrt(2.0 / (self.width * self.num_blocks)))

  @property
  def offsets(self) -> tuple[tuple[int, int], ...]:
    return (*above_and_left(self.kernel_size), *HERE)

  def narrowed(self, x: Float[Array, "*shape wide"]) -> Float[Array, "*shape width"]:
    return jax.nn.relu(self.narrow(jax.nn.relu(x)))

  def added(self, convolved: Float[Array, "*shape width"], key: Key[Array, ""] | None) -> Float[Array, "*shape wide"]:
    return self.widen(dropout(key, jax.nn.relu(convolved), self.dropout))

  def __call__(self, x: Float[Array, "batch height columns wide"],
               key: Key[Array, ""] | None) -> Float[Array, "batch height columns wide"]:
    return end_of_block(x + self.added(self.convolution(self.narrowed(x)), key))

  def step(self, x: Float[Array, "batch wide"], ring: Float[Array, "slots batch width"], pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch wide"], Float[Array, "slots batch width"]]:
    """The same at one pixel, and the ring of its convolution."""
    ring = put(ring, self.narrowed(x), pixel)
    return x + self.added(self.convolution.step(ring, pixel, columns), None), ring


class PixelCNNNetwork(nn.Module):
  """Images to the logits of their values.

  Attributes:
    event: (height, width, channels).
    levels: values of a channel of a pixel.
    width: units within the blocks; between them there are twice as many.
    num_blocks: residual blocks.
    first_size: kernel size of the first convolution, of mask A.
    kernel_size: of the blocks'.
    head_width: units of the two layers before the logits.
    located: whether the first layer has a bias for each pixel.
    input_dropout: rate on pixels as inputs.
    dropout: rate within the blocks.
  """

  event: tuple[int, int, int]
  levels: int
  width: int
  num_blocks: int
  first_size: int
  kernel_size: int
  head_width: int
  located: bool
  input_dropout: float
  dropout: float

  def setup(self) -> None:
    channels = self.event[-1]
    self.first = MaskedConvolution(2 * self.width, (*above_and_left(self.first_size), *HERE), channels, "A")
    if self.located:
      self.place = PixelBias(*self.event[:2], 2 * self.width)
    self.blocks = [ResidualBlock(self.width, self.kernel_size, channels, self.num_blocks, self.dropout)
                   for _ in range(self.num_blocks)]
    self.hidden = MaskedConvolution(self.head_width, HERE, channels, "B")
    self.readout = MaskedConvolution(channels * self.levels, HERE, channels, "B")

  def logits(self, x: Float[Array, "*shape wide"]) -> Float[Array, "*shape channels levels"]:
    logits = self.readout(jax.nn.relu(self.hidden(jax.nn.relu(x))))
    return logits.reshape(*x.shape[:-1], self.event[-1], self.levels)

  def __call__(self, x: Num[Array, "batch height columns channels"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch height columns channels levels"]:
    """Logits of each value given those before it in raster order, channels innermost; a key means training."""
    return self.of_codes(image_codes(x, self.levels), key)

  def of_codes(self, codes: Float[Array, "batch height columns inputs"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch height columns channels levels"]:
    """The same, from the values' codes."""
    first, *keys = [None] * (self.num_blocks + 1) if key is None else jax.random.split(key, self.num_blocks + 1)
    codes = codes * dropout_scale(first, (*codes.shape[:-1], 1), self.input_dropout)
    x = self.first(codes) + (self.place() if self.located else 0.0)
    for block, block_key in zip(self.blocks, keys, strict=True):
      x = block(x, block_key)
    return self.logits(x)

  def init_cache(self, num: int, dtype: jnp.dtype) -> Rings:
    """Rings of the codes and of each block."""
    _, columns, channels = self.event
    codes = empty_ring(self.first.offsets, columns, num, channels * num_codes(self.levels), dtype)
    return (codes, *(empty_ring(block.offsets, columns, num, self.width, dtype) for block in self.blocks))

  def step(self, previous: Int[Array, " batch"], rings: Rings,
           index: Int[Array, ""]) -> tuple[Float[Array, "batch levels"], Rings]:
    """Logits of the value at `index`; `previous` is the value before it.

    Each channel of a pixel takes a step through all layers. Those that are not known yet are masked, and what they
    would have changed is written again with the next.
    """
    _, columns, channels = self.event
    pixel = index // channels
    codes, *old = rings
    codes = put_value(codes, previous, index - 1, channels, self.levels)
    x, new = self.first.step(codes, pixel, columns) + (self.place.at(pixel) if self.located else 0.0), [codes]
    for block, ring in zip(self.blocks, old, strict=True):
      x, ring = block.step(x, ring, pixel, columns)
      new.append(ring)
    return jax.lax.dynamic_index_in_dim(self.logits(x), index % channels, axis=1, keepdims=False), tuple(new)
