"""Diagonal BiLSTM: PixelRNN's network that goes from diagonal to diagonal, both ways (van den Oord et al.,
arXiv:1601.06759, section 3.2).

One direction's state at a pixel comes from those to its left and above, the other's from those to its right and above;
the latter is used one row further down. Together they see all that comes before, whatever the image's size.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.networks import pixel_lstm, recurrence
from gdm.networks.dropout import dropout
from gdm.networks.masked_convolution import (
    HERE,
    MaskedConvolution,
    Offsets,
    above_and_left,
    empty_ring,
    put,
    ring_neighbours,
    rows_above,
)
from gdm.networks.pixel_codes import num_codes, put_value
from gdm.networks.pixel_lstm import CELL, GATES, PixelLSTMNetwork, by_gate, recur

BEFORE: Offsets = ((0, -1),)
ABOVE_AND_BEFORE: Offsets = ((-1, 0), (0, -1))
# Where these lie in the diagonal before, whose places are rows.
SHIFTS = tuple(row for row, _ in ABOVE_AND_BEFORE)


class Known(NamedTuple):
  """What a layer's step needs of the pixels before it.

  Attributes:
    row: its inputs in the columns of a row, from the column of the pixel on those of the row above.
    hidden: ring of the hidden units of the direction to the right.
    cells: ring of its memory cells.
    above: hidden units of the direction to the left in the row above.
  """

  row: Float[Array, "columns batch doubled"]
  hidden: Float[Array, "_ batch units"]
  cells: Float[Array, "_ batch units"]
  above: Float[Array, "columns batch units"]


class Cache(NamedTuple):
  """What a step needs of the pixels before it.

  Attributes:
    codes: ring of the image's codes.
    layers: what each layer knows.
  """

  codes: Float[Array, "slots batch inputs"]
  layers: tuple[Known, ...]


def skew(x: Float[Array, "height columns *rest"]) -> Float[Array, "height diagonals *rest"]:
  """Each row moved right by one more than the one above, zeros beside it: diagonals become columns (figure 3)."""
  height, columns, *rest = x.shape
  padded = jnp.pad(x, ((0, 0), (0, height), *[(0, 0)] * len(rest)))
  # Rows that are one shorter than they were begin one place earlier each.
  return padded.reshape(-1, *rest)[:-height].reshape(height, columns + height - 1, *rest)


def unskew(x: Float[Array, "height diagonals *rest"]) -> Float[Array, "height columns *rest"]:
  """What `skew` had been given."""
  height, diagonals, *rest = x.shape
  flat = jnp.pad(x.reshape(-1, *rest), ((0, height), *[(0, 0)] * len(rest)))
  return flat.reshape(height, diagonals + 1, *rest)[:, :diagonals + 1 - height]


def along_diagonals(gates: Float[Array, "height columns batch gates"],
                    kernel: Float[Array, "taps_units gates"]) -> Float[Array, "height columns batch units"]:
  """Hidden units of an LSTM whose states come from above and from the left.

  What `skew` pads with is no input at all, not even a bias, so states left of the image are zero.
  """
  return unskew(jnp.swapaxes(recur(SHIFTS, jnp.swapaxes(skew(gates), 0, 1), kernel), 0, 1))


class DiagonalLayer(nn.Module):
  """x + W h, where h are the hidden units of an LSTM in both directions (figure 5, right).

  Attributes:
    width: hidden units of each direction; x has twice as many.
    channels: of the image.
    num_layers: how many layers add up; the weights that add start with a standard deviation divided by its root.
    is_first: whether the direction to the left reads the image's codes as well.
    dropout: rate on the hidden units that are added, not on those that other pixels see.
  """

  width: int
  channels: int
  num_layers: int
  is_first: bool
  dropout: float

  def setup(self) -> None:
    outputs = GATES * self.width
    self.rightwards = MaskedConvolution(outputs, HERE, self.channels, "B", use_bias=False)
    self.rightwards_bias = self.param("rightwards_bias", pixel_lstm.forget_bias, (outputs,))
    # No mask: of other pixels all channels are known. The direction to the left has none at all, a row below it.
    self.rightwards_kernel = self.param("rightwards_kernel", pixel_lstm.state_kernel, (2 * self.width, outputs))
    self.leftwards = MaskedConvolution(outputs, HERE, use_bias=False)
    self.leftwards_bias = self.param("leftwards_bias", pixel_lstm.forget_bias, (outputs,))
    self.leftwards_kernel = self.param("leftwards_kernel", pixel_lstm.state_kernel, (2 * self.width, outputs))
    if self.is_first:
      # Mask A keeps a pixel's own value from x; pixels to its right know it, but the last of a row has none. So in the
      # paper's network that pixel is unknown to most of the next row. A row below, all of a pixel may be known.
      self.of_codes = MaskedConvolution(outputs, HERE, use_bias=False)
    self.to_residual = MaskedConvolution(2 * self.width, HERE, self.channels, "B",
                                         1.0 / math.sqrt(self.width * self.num_layers))

  def right_gates(self, x: Float[Array, "*shape doubled"]) -> Float[Array, "*shape gates"]:
    return by_gate(self.rightwards(x), self.channels) + self.rightwards_bias

  def left_gates(self, x: Float[Array, "*shape doubled"],
                 codes: Float[Array, "*shape inputs"]) -> Float[Array, "*shape gates"]:
    return self.leftwards(x) + (self.of_codes(codes) if self.is_first else 0.0) + self.leftwards_bias

  def __call__(self, x: Float[Array, "height columns batch doubled"],
               codes: Float[Array, "height columns batch inputs"],
               key: Key[Array, ""] | None) -> Float[Array, "height columns batch doubled"]:
    right = along_diagonals(self.right_gates(x), self.rightwards_kernel)
    # The last row of the direction to the left is never seen.
    mirrored = jnp.flip(self.left_gates(x[:-1], codes[:-1]), 1)
    left = jnp.flip(along_diagonals(mirrored, self.leftwards_kernel), 1)
    hidden = right + jnp.pad(left, ((1, 0), (0, 0), (0, 0), (0, 0)))
    return x + self.to_residual(dropout(key, hidden, self.dropout))

  def known(self, columns: int, num: int, dtype: jnp.dtype) -> Known:
    return Known(jnp.zeros((columns, num, 2 * self.width), dtype),
                 empty_ring(ABOVE_AND_BEFORE, columns, num, self.width, dtype),
                 empty_ring(BEFORE, columns, num, self.width, dtype),
                 jnp.zeros((columns, num, self.width), dtype))

  def begin_row(self, known: Known, codes: Float[Array, "columns batch inputs"]) -> Float[Array, "columns batch units"]:
    """The direction to the left in the row above, which is known now, from that in the row above it."""
    gates = self.left_gates(known.row, codes) + known.above @ self.leftwards_kernel[:self.width]
    zeros = jnp.zeros_like(known.above[0])
    out: Any = recurrence.recur(CELL, jnp.flip(gates, 0), self.leftwards_kernel[self.width:],
                                jnp.zeros(0, gates.dtype), (zeros, zeros))
    return jnp.flip(out[0], 0)

  def step(self, x: Float[Array, "batch doubled"], known: Known, pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch doubled"], Known]:
    """The same at one pixel, and what is known then."""
    seen = ring_neighbours(known.hidden, pixel, columns, ABOVE_AND_BEFORE)
    hidden, cells = pixel_lstm.step(self.right_gates(x), seen, self.rightwards_kernel,
                                    ring_neighbours(known.cells, pixel, columns, BEFORE))
    above = jax.lax.dynamic_index_in_dim(known.above, pixel % columns, axis=0, keepdims=False)
    known = known._replace(row=put(known.row, x, pixel), hidden=put(known.hidden, hidden, pixel),
                           cells=put(known.cells, cells, pixel))
    return x + self.to_residual(hidden + above), known


class DiagonalBiLSTMNetwork(PixelLSTMNetwork):
  """Images to the logits of their values."""

  def layer(self, index):
    return DiagonalLayer(self.width, self.event[-1], self.num_layers, index == 0, self.dropout)

  def init_cache(self, num: int, dtype: jnp.dtype) -> Cache:
    _, columns, channels = self.event
    codes = empty_ring(above_and_left(self.first_size), columns, num, channels * num_codes(self.levels), dtype)
    return Cache(codes, tuple(layer.known(columns, num, dtype) for layer in self.layers))

  def put(self, previous: Int[Array, " batch"], cache: Cache, index: Int[Array, ""]) -> Cache:
    """The cache that knows the value before `index`."""
    return cache._replace(codes=put_value(cache.codes, previous, index - 1, self.event[-1], self.levels))

  def begin_row(self, cache: Cache, index: Int[Array, ""]) -> tuple[Float[Array, "columns batch units"], ...]:
    """What each layer's `above` is in the row of `index`, whose rows above are known."""
    _, columns, channels = self.event
    row = index // (columns * channels)
    codes = jnp.moveaxis(rows_above(cache.codes, row, columns, 1)[:, 0], 0, 1)
    return tuple(jnp.where(row > 0, layer.begin_row(known, codes), 0.0)
                 for layer, known in zip(self.layers, cache.layers, strict=True))

  def step(self, cache: Cache, index: Int[Array, ""]) -> tuple[Float[Array, "batch levels"], Cache]:
    """Logits of the value at `index`, from a cache that knows the value before it and has begun its row.

    Each channel of a pixel takes a step through all layers. Those that are not known yet are masked, and what they
    would have changed is written again with the next.
    """
    _, columns, channels = self.event
    pixel, layers = index // channels, []
    x = self.first.step(cache.codes, pixel, columns) + (self.place.at(pixel) if self.located else 0.0)
    for layer, known in zip(self.layers, cache.layers, strict=True):
      x, known = layer.step(x, known, pixel, columns)
      layers.append(known)
    logits = jax.lax.dynamic_index_in_dim(self.logits(x), index % channels, axis=1, keepdims=False)
    return logits, cache._replace(layers=tuple(layers))
