"""PixelCNN++: mixtures of discretized logistics over whole pixels, by two streams at several resolutions (Salimans et
al., arXiv:1701.05517, section 2).

An encoder computes coarser and coarser resolutions, and a decoder comes back to the finest, with short cuts from the
encoder to the decoder. A coarse pixel stands for 2 x 2 fine ones. It is computed together with the first of these, and
depends only on what that one depends on. So the other three, which come later, may depend on it, and no resolution
needs a shift. Weights are not normalized.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdm.autoregressive.images.image_model import ImageModel
from gdm.autoregressive.images.image_network import ImageNetwork
from gdm.autoregressive.images.masked_convolution import (
  HERE,
  MaskedConvolution,
  above,
  above_and_left,
  empty_ring,
  neighbours,
  row_neighbours,
  rows_above,
  strictly_above,
)
from gdm.autoregressive.images.pixel_codes import PixelBias, num_codes, put_value
from gdm.autoregressive.images.pixelcnn_pp_blocks import Rings, Rows, StreamLayer, Streams, before, convolve_row
from gdm.autoregressive.images.pixelcnn_pp_steps import PixelCNNPPCache, ScaleRings, ScaleRows, next_pixel, next_row
from gdm.autoregressive.images.pixels import LogisticPixels
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.networks.dropout import dropout_scale


class StreamScale(nn.Module):
  """The layers of the encoder and the decoder at one resolution, and the steps to the next coarser one and back.

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
    def layers(num: int, has_short_cut: bool) -> list[StreamLayer]:
      return [StreamLayer(self.width, self.kernel_size, self.num_layers, has_short_cut, self.dropout)
              for _ in range(num)]

    self.encoder = layers(self.num_blocks, False)
    # One for each state that the encoder went through. At the coarsest, the last is where the decoder starts.
    self.decoder = layers(self.num_blocks + (not self.is_coarsest), True)
    if not self.is_coarsest:
      self.shrink_down = MaskedConvolution(self.width, above(self.kernel_size))
      self.shrink_right = MaskedConvolution(self.width, before(self.kernel_size))
      self.grow_down = MaskedConvolution(4 * self.width, HERE)
      self.grow_right = MaskedConvolution(4 * self.width, HERE)

  def shrink(self, x: Streams) -> Streams:
    """Return the streams at every second row and column."""
    down, right = (convolution.apply_taps(neighbours(y, convolution.taps)[:, ::2, ::2])
                   for convolution, y in zip((self.shrink_down, self.shrink_right), x, strict=True))
    return Streams(down, right)

  def grow(self, x: Streams) -> Streams:
    """Return the streams at twice as many rows and columns."""
    batch, height, columns, width = x.down.shape
    down, right = (
        jnp.swapaxes(convolution(y).reshape(batch, height, columns, 2, 2, width), 2, 3)
        .reshape(batch, 2 * height, 2 * columns, width)
        for convolution, y in zip((self.grow_down, self.grow_right), x, strict=True))
    return Streams(down, right)

  def encode(self, x: Streams, keys: list) -> list[Streams]:
    """Return x and the output of each layer."""
    states = [x]
    for layer, key in zip(self.encoder, keys, strict=True):
      states.append(layer(states[-1], None, key))
    return states

  def decode(self, x: Streams, states: list[Streams], keys: list) -> Streams:
    """Return the streams after the decoder; the encoder's `states` come by short cuts, the last one first."""
    for layer, short, key in zip(self.decoder, reversed(states), keys, strict=True):
      x = layer(x, short, key)
    return x

  # The same row by row and pixel by pixel. Each method also returns the next rows or rings of its layers.

  def encode_row(self, down: Float[Array, "batch columns width"],
                 rows: Sequence[Rows]) -> tuple[list[Array], list[Rows], list[Array]]:
    """Return the down stream and each layer's output, the next rows, and the contributions to the right stream."""
    states, new, from_down = [down], [], []
    for layer, inputs in zip(self.encoder, rows, strict=True):
      down, inputs, contribution = layer.row(states[-1], None, inputs)
      states.append(down)
      new.append(inputs)
      from_down.append(contribution)
    return states, new, from_down

  def decode_row(self, down: Float[Array, "batch columns width"], states: Sequence[Array],
                 rows: Sequence[Rows]) -> tuple[Float[Array, "batch columns width"], list[Rows], list[Array]]:
    """Return the down stream, the next rows, and the contributions to the right stream."""
    new, from_down = [], []
    for layer, short, inputs in zip(self.decoder, reversed(states), rows, strict=True):
      down, inputs, contribution = layer.row(down, short, inputs)
      new.append(inputs)
      from_down.append(contribution)
    return down, new, from_down

  def encode_pixel(self, right: Float[Array, "batch width"], from_down: Sequence[Array], rings: Sequence[Rings],
                   pixel: Int[Array, ""], columns: int) -> tuple[list[Array], list[Rings]]:
    """Return the right stream and each layer's output, and the next rings."""
    states, new = [right], []
    for layer, contribution, ring in zip(self.encoder, from_down, rings, strict=True):
      right, ring = layer.step(states[-1], None, contribution, ring, pixel, columns)
      states.append(right)
      new.append(ring)
    return states, new

  def decode_pixel(self, right: Float[Array, "batch width"], states: Sequence[Array], from_down: Sequence[Array],
                   rings: Sequence[Rings], pixel: Int[Array, ""],
                   columns: int) -> tuple[Float[Array, "batch width"], list[Rings]]:
    """Return the right stream, and the next rings."""
    new = []
    for layer, short, contribution, ring in zip(self.decoder, reversed(states), from_down, rings, strict=True):
      right, ring = layer.step(right, short, contribution, ring, pixel, columns)
      new.append(ring)
    return right, new

  def shrink_row(self, down: Float[Array, "batch columns width"], inputs: Array) -> tuple[Array, Array]:
    y, inputs = convolve_row(self.shrink_down, down, inputs)
    return y[:, ::2], inputs

  def grow_row(self, down: Float[Array, "batch columns width"]) -> Float[Array, "batch 2 _ width"]:
    batch, columns, width = down.shape
    y = self.grow_down(down).reshape(batch, columns, 2, 2, width)
    return jnp.swapaxes(y, 1, 2).reshape(batch, 2, 2 * columns, width)

  def shrink_pixel(self, ring: Array, pixel: Int[Array, ""], columns: int) -> Float[Array, "batch width"]:
    return self.shrink_right.step(ring, pixel, columns)

  def grow_pixel(self, right: Float[Array, "batch width"]) -> Float[Array, "2 2 batch width"]:
    y = self.grow_right(right).reshape(len(right), 2, 2, self.width)
    return jnp.moveaxis(y, 0, 2)


class PixelCNNPP(ImageNetwork):
  """PixelCNN++'s network, whose outputs depend on whole pixels; the distribution alone orders a pixel's channels.

  Attributes:
    width: units of the down and of the right stream.
    num_blocks: residual blocks of the encoder at each resolution. The decoder has as many, and one more where there is
      a coarser one, so that every state of the encoder has a short cut.
    num_scales: resolutions; each but the first has half as many rows and columns as the one before.
    kernel_size: kernel size, odd, of the layers after the first; with 3 they are 2 x 3 and 2 x 2 as in the paper.
  """

  width: int = 64
  num_blocks: int = 2
  num_scales: int = 2
  first_size: int = 5
  kernel_size: int = 3

  masked_channels: ClassVar[bool] = False

  def __post_init__(self) -> None:
    self.check(("width", "num_blocks", "num_scales"), (), ("first_size", "kernel_size"))
    coarsest = 2**(self.num_scales - 1)
    if any(side % coarsest for side in self.event[:2]):
      height, columns, _ = self.event
      raise ConfigError(f"network.num_scales is {self.num_scales}, for which both sides of images must be multiples of "
                        f"{coarsest}; images of {height} x {columns} are not.")
    super().__post_init__()

  def setup(self) -> None:
    self.first_down = MaskedConvolution(self.width, strictly_above(self.first_size))
    self.first_right = MaskedConvolution(self.width, above_and_left(self.first_size))
    if self.located:
      self.place = PixelBias(*self.event[:2], 2 * self.width)
    num_layers = 2 * self.num_scales * self.num_blocks + self.num_scales - 1
    self.scales = [StreamScale(self.width, self.kernel_size, self.num_blocks, num_layers, i == self.num_scales - 1,
                         self.dropout) for i in range(self.num_scales)]
    self.readout = MaskedConvolution(self.outputs, HERE)

  def read_out(self, right: Float[Array, "*shape width"]) -> Float[Array, "*shape outputs"]:
    return self.readout(jax.nn.elu(right))

  def outputs_from_codes(self, codes, key=None, y=None):
    first, *keys = [None] * (self.num_scales + 1) if key is None else jax.random.split(key, self.num_scales + 1)
    codes = codes * dropout_scale(first, (*codes.shape[:-1], 1), self.input_dropout)
    down_place, right_place = jnp.split(self.place(), 2, axis=-1) if self.located else (0.0, 0.0)
    x = Streams(self.first_down(codes) + down_place, self.first_right(codes) + right_place)
    return self.read_out(self._from_scale(0, x, keys).right)

  def _from_scale(self, i: int, x: Streams, keys: list) -> Streams:
    """Return the streams after the encoder and the decoder of resolution i and of all coarser ones."""
    scale, num = self.scales[i], self.num_blocks
    layer_keys = [None] * (2 * num + 1) if keys[i] is None else list(jax.random.split(keys[i], 2 * num + 1))
    # Encode; at the coarsest the decoder starts from the last state, else from what the coarser resolution returns.
    states = scale.encode(x, layer_keys[:num])
    if scale.is_coarsest:
      return scale.decode(states[-1], states[:-1], layer_keys[num:-1])
    x = scale.grow(self._from_scale(i + 1, scale.shrink(states[-1]), keys))
    return scale.decode(x, states, layer_keys[num:])

  def init_cache(self, num, dtype, y=None) -> PixelCNNPPCache:
    _, columns, channels = self.event
    width, rows, rings = self.width, [], []
    for i in range(self.num_scales):
      coarse, is_coarsest = columns >> i, i == self.num_scales - 1
      num_layers = 2 * self.num_blocks + (not is_coarsest)
      # Of each layer, zeros above and before the image, and no contribution from the down stream yet.
      row = jnp.zeros((num, self.kernel_size // 2, coarse, 2 * width), dtype)
      ring = empty_ring(before(self.kernel_size), coarse, num, 2 * width, dtype)
      from_down = jnp.zeros((coarse, num, width), dtype)
      # Of the step to the coarser resolution the same, and room for what comes back.
      row_link, ring_link = (None, None) if is_coarsest else (
          (row[..., :width], jnp.zeros((num, 2, coarse, width), dtype)),
          (ring[..., :width], jnp.zeros((2, coarse, num, width), dtype)))
      rows.append(ScaleRows(((row, row),) * num_layers, (from_down,) * num_layers, row_link))
      rings.append(ScaleRings(((ring, ring),) * num_layers, ring_link))
    codes = empty_ring(above_and_left(self.first_size), columns, num, channels * num_codes(self.levels), dtype)
    return PixelCNNPPCache(codes, jnp.zeros((num, self.outputs), dtype), tuple(rows), tuple(rings))

  @nn.nowrap
  def advance(self, variables, cache, previous, index):
    """As in the base class; the network runs at a pixel's first value only, since later channels need no outputs."""
    _, columns, channels = self.event
    pixel, row = index // channels, index // channels // columns
    apply: Any = functools.partial(self.apply, variables)
    run = functools.partial(apply, method="at_scale")
    codes = put_value(cache.codes, previous, index - 1, channels, self.levels)

    # The down stream is computed at the first value of a row.
    def begin_row() -> tuple[ScaleRows, ...]:
      return next_row(run, 0, apply(codes, row, method="first_of_row"), row, cache.rows)[1]

    rows = jax.lax.cond(index % (columns * channels) == 0, begin_row, lambda: cache.rows)

    # The right stream is computed at the first value of a pixel.
    def begin_pixel() -> tuple[Float[Array, "batch outputs"], tuple[ScaleRings, ...]]:
      first = apply(codes, pixel, method="first_of_pixel")
      right, rings = next_pixel(run, 0, first, pixel, columns, rows, cache.rings)
      return apply(right, method="read_out").astype(cache.outputs.dtype), rings

    outputs, rings = jax.lax.cond(index % channels == 0, begin_pixel, lambda: (cache.outputs, cache.rings))
    return outputs, PixelCNNPPCache(codes, outputs, rows, rings)

  def at_scale(self, i: int, name: str, *arguments: Any) -> Any:
    """Call a method of scale i by its name, and return its result."""
    return getattr(self.scales[i], name)(*arguments)

  def first_of_row(self, codes: Float[Array, "slots batch inputs"],
                   row: Int[Array, ""]) -> Float[Array, "batch columns width"]:
    """Return the first scale's input of the down stream, in one row."""
    codes_above = rows_above(codes, row, self.event[1], self.first_size // 2)
    down = self.first_down.apply_taps(row_neighbours(codes_above, self.first_down.taps))
    return down + self.place()[row, :, :self.width] if self.located else down

  def first_of_pixel(self, codes: Float[Array, "slots batch inputs"],
                     pixel: Int[Array, ""]) -> Float[Array, "batch width"]:
    """Return the first scale's input of the right stream, at one pixel."""
    right = self.first_right.step(codes, pixel, self.event[1])
    return right + self.place.at(pixel)[self.width:] if self.located else right


def pixelcnn_pp(spec: DataSpec, network: PixelCNNPP = PixelCNNPP(),
                pixels: LogisticPixels = LogisticPixels()) -> ImageModel:
  """Return a PixelCNN++ with a mixture of discretized logistics for each pixel.

  Args:
    spec: the data.
    network: its layers and their sizes.
    pixels: the mixture, with its number of logistics.
  """
  return ImageModel(spec, network, pixels)
