"""PixelCNN++'s residual blocks of two streams (Salimans et al., arXiv:1701.05517, section 2).

Each runs on whole images, on one row, or at one pixel. At a pixel, the down stream depends on all rows above, and the
right stream on all pixels before it.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.autoregressive.images.masked_convolution import HERE, MaskedConvolution, Offsets, above, put, row_neighbours
from gdm.networks.dropout import dropout
from gdm.stages import end_of_stage


class Streams(NamedTuple):
  """The two streams at one resolution."""

  down: Float[Array, "batch height columns width"]
  right: Float[Array, "batch height columns width"]


Rows = tuple[Float[Array, "batch _ columns doubled"], Float[Array, "batch _ columns doubled"]]
Rings = tuple[Float[Array, "_ batch doubled"], Float[Array, "_ batch doubled"]]


def before(size: int) -> Offsets:
  """Return the offsets of a size x size neighbourhood up to its centre's row and its centre's column."""
  return tuple((i, j) for i, j in above(size) if j <= 0)


def concat_elu(x: Float[Array, "*shape units"]) -> Float[Array, "*shape doubled"]:
  """Return elu of x and of -x, side by side."""
  return jax.nn.elu(jnp.concatenate([x, -x], axis=-1))


def gate(x: Float[Array, "*shape doubled"]) -> Float[Array, "*shape units"]:
  """Return one half times the sigmoid of the other."""
  value, opening = jnp.split(x, 2, axis=-1)
  return value * jax.nn.sigmoid(opening)


def convolve_row(
    convolution: MaskedConvolution, x: Float[Array, "batch columns inputs"],
    above: Float[Array, "batch rows columns inputs"],
) -> tuple[Float[Array, "batch columns outputs"], Float[Array, "batch rows columns inputs"]]:
  """Convolve in one row, given the inputs x there and those above it; return also the inputs above the next row."""
  rows = jnp.concatenate([above, x[:, None].astype(above.dtype)], axis=1)
  return convolution.apply_taps(row_neighbours(rows, convolution.taps)), rows[:, 1:]


class StreamBlock(nn.Module):
  """x + gate(convolution of concat_elu(convolution of concat_elu(x) + shift)): one residual block of one stream.

  Attributes:
    width: units of x.
    offsets: of both convolutions.
    num_layers: how many blocks add up; the weights that add start with a standard deviation divided by its root.
    dropout: rate on the inputs of the second convolution.
  """

  width: int
  offsets: Offsets
  num_layers: int
  dropout: float

  def setup(self) -> None:
    added = 1.0 / math.sqrt(2 * self.width * len(self.offsets) * self.num_layers)
    self.first = MaskedConvolution(self.width, self.offsets)
    self.second = MaskedConvolution(2 * self.width, self.offsets, stddev=added)

  def __call__(self, x: Float[Array, "batch height columns width"],
               shift: Float[Array, "batch height columns width"] | float,
               key: Key[Array, ""] | None) -> Float[Array, "batch height columns width"]:
    hidden = dropout(key, concat_elu(self.first(concat_elu(x)) + shift), self.dropout)
    return end_of_stage(x + gate(self.second(hidden)))

  def row(self, x: Float[Array, "batch columns width"], shift: Float[Array, "batch columns width"] | float,
          rows: Rows) -> tuple[Float[Array, "batch columns width"], Rows]:
    """Return the same in one row, and its inputs for the next."""
    hidden, first = convolve_row(self.first, concat_elu(x), rows[0])
    added, second = convolve_row(self.second, concat_elu(hidden + shift), rows[1])
    return x + gate(added), (first, second)

  def step(self, x: Float[Array, "batch width"], shift: Float[Array, "batch width"], rings: Rings,
           pixel: Int[Array, ""], columns: int) -> tuple[Float[Array, "batch width"], Rings]:
    """Return the same at one pixel, and its rings."""
    first = put(rings[0], concat_elu(x), pixel)
    hidden = self.first.step(first, pixel, columns) + shift
    second = put(rings[1], concat_elu(hidden), pixel)
    return x + gate(self.second.step(second, pixel, columns)), (first, second)


class StreamLayer(nn.Module):
  """One block of each stream; the down stream contributes to the right one, and short cuts to both (figure 2).

  Attributes:
    width: units of each stream.
    kernel_size: of the convolutions.
    num_layers: how many layers add up.
    has_short_cut: whether the layer is in the decoder, and takes states of the encoder.
    dropout: rate within the blocks.
  """

  width: int
  kernel_size: int
  num_layers: int
  has_short_cut: bool
  dropout: float

  def setup(self) -> None:
    self.down = StreamBlock(self.width, above(self.kernel_size), self.num_layers, self.dropout)
    self.right = StreamBlock(self.width, before(self.kernel_size), self.num_layers, self.dropout)
    self.across = MaskedConvolution(self.width, HERE, use_bias=False)
    if self.has_short_cut:
      self.short_down = MaskedConvolution(self.width, HERE, use_bias=False)
      self.short_right = MaskedConvolution(self.width, HERE, use_bias=False)

  def to_down(self, short: Float[Array, "*shape width"] | None) -> Float[Array, "*shape width"] | float:
    """Return the contribution of the encoder's down stream to the decoder's."""
    return 0.0 if short is None else self.short_down(concat_elu(short))

  def to_right(self, short: Float[Array, "*shape width"] | None) -> Float[Array, "*shape width"] | float:
    """Return the contribution of the encoder's right stream to the decoder's."""
    return 0.0 if short is None else self.short_right(concat_elu(short))

  def __call__(self, x: Streams, short: Streams | None, key: Key[Array, ""] | None) -> Streams:
    down_key, right_key = (None, None) if key is None else jax.random.split(key)
    short_down, short_right = (None, None) if short is None else short
    down = self.down(x.down, self.to_down(short_down), down_key)
    shift = self.across(concat_elu(down)) + self.to_right(short_right)
    return Streams(down, self.right(x.right, shift, right_key))

  def row(self, down: Float[Array, "batch columns width"], short: Float[Array, "batch columns width"] | None,
          rows: Rows) -> tuple[Float[Array, "batch columns width"], Rows, Float[Array, "columns batch width"]]:
    """Return one row of the down stream, its inputs for the next, and its contribution to the right stream."""
    down, rows = self.down.row(down, self.to_down(short), rows)
    return down, rows, jnp.moveaxis(self.across(concat_elu(down)), 0, 1)

  def step(self, right: Float[Array, "batch width"], short: Float[Array, "batch width"] | None,
           from_down: Float[Array, "batch width"], rings: Rings, pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch width"], Rings]:
    """Return the right stream at one pixel, and its rings."""
    return self.right.step(right, from_down + self.to_right(short), rings, pixel, columns)
