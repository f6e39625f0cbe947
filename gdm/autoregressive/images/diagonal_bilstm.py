"""Diagonal BiLSTM: a PixelRNN along diagonals, both ways (van den Oord et al., arXiv:1601.06759, section 3.2).

One direction's state at a pixel comes from those to its left and above, the other's from those to its right and above;
the latter is used one row further down. Together they see all that comes before, whatever the image's size.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.autoregressive import recurrence
from gdm.autoregressive.images import pixel_lstm
from gdm.autoregressive.images.image_model import ImageModel
from gdm.autoregressive.images.masked_convolution import (
  HERE,
  MaskedConvolution,
  Offsets,
  empty_ring,
  put,
  ring_neighbours,
  rows_above,
)
from gdm.autoregressive.images.pixel_lstm import CELL, GATES, PixelLSTM, by_gate, recur
from gdm.dataspec import DataSpec
from gdm.networks.dropout import dropout

BEFORE: Offsets = ((0, -1),)
ABOVE_AND_BEFORE: Offsets = ((-1, 0), (0, -1))
# Where these lie in the diagonal before, whose places are rows.
SHIFTS = tuple(row for row, _ in ABOVE_AND_BEFORE)


class DiagonalState(NamedTuple):
  """The state of a layer's step.

  Attributes:
    row: the layer's inputs in the present row, from the column of the pixel on in the row above.
    hidden: ring of the hidden units of the direction to the right.
    cells: ring of its memory cells.
    above: hidden units of the direction to the left in the row above.
  """

  row: Float[Array, "columns batch doubled"]
  hidden: Float[Array, "_ batch units"]
  cells: Float[Array, "_ batch units"]
  above: Float[Array, "columns batch units"]


class DiagonalBiLSTMCache(NamedTuple):
  """The state of `DiagonalBiLSTM.advance`.

  Attributes:
    codes: ring of the image's codes.
    layers: each layer's state.
  """

  codes: Float[Array, "slots batch inputs"]
  layers: tuple[DiagonalState, ...]


def skew(x: Float[Array, "height columns *rest"]) -> Float[Array, "height diagonals *rest"]:
  """Move each row right by one more than the one above, with zeros beside it: diagonals become columns (figure 3)."""
  height, columns, *rest = x.shape
  padded = jnp.pad(x, ((0, 0), (0, height), *[(0, 0)] * len(rest)))
  # Rows that are one shorter than they were begin one place earlier each.
  return padded.reshape(-1, *rest)[:-height].reshape(height, columns + height - 1, *rest)


def unskew(x: Float[Array, "height diagonals *rest"]) -> Float[Array, "height columns *rest"]:
  """Invert `skew`."""
  height, diagonals, *rest = x.shape
  flat = jnp.pad(x.reshape(-1, *rest), ((0, height), *[(0, 0)] * len(rest)))
  return flat.reshape(height, diagonals + 1, *rest)[:, :diagonals + 1 - height]


def along_diagonals(gates: Float[Array, "height columns batch gates"],
                    kernel: Float[Array, "taps_units gates"]) -> Float[Array, "height columns batch units"]:
  """Return hidden units of an LSTM whose states come from above and from the left.

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
    dropout: rate on the hidden units that are added, not on those that other pixels depend on.
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
      # With mask A x lacks a pixel's value; pixels to its right have it, but the last of a row has none. So in the
      # paper's network most of the next row does not depend on that pixel. A row below, all of a pixel may be used.
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
    # Nothing depends on the last row of the direction to the left.
    mirrored = jnp.flip(self.left_gates(x[:-1], codes[:-1]), 1)
    left = jnp.flip(along_diagonals(mirrored, self.leftwards_kernel), 1)
    hidden = right + jnp.pad(left, ((1, 0), (0, 0), (0, 0), (0, 0)))
    return x + self.to_residual(dropout(key, hidden, self.dropout))

  def init_state(self, columns: int, num: int, dtype: jnp.dtype) -> DiagonalState:
    return DiagonalState(jnp.zeros((columns, num, 2 * self.width), dtype),
                         empty_ring(ABOVE_AND_BEFORE, columns, num, self.width, dtype),
                         empty_ring(BEFORE, columns, num, self.width, dtype),
                         jnp.zeros((columns, num, self.width), dtype))

  def begin_row(self, state: DiagonalState,
                codes: Float[Array, "columns batch inputs"]) -> Float[Array, "columns batch units"]:
    """Return the direction to the left in the row above, which is known now, from the row above it."""
    gates = self.left_gates(state.row, codes) + state.above @ self.leftwards_kernel[:self.width]
    zeros = jnp.zeros_like(state.above[0])
    out: Any = recurrence.recur(CELL, jnp.flip(gates, 0), self.leftwards_kernel[self.width:],
                                jnp.zeros(0, gates.dtype), (zeros, zeros))
    return jnp.flip(out[0], 0)

  def step(self, x: Float[Array, "batch doubled"], state: DiagonalState, pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch doubled"], DiagonalState]:
    """Return the same at one pixel, and the next state."""
    neighbours = ring_neighbours(state.hidden, pixel, columns, ABOVE_AND_BEFORE)
    hidden, cells = pixel_lstm.step(self.right_gates(x), neighbours, self.rightwards_kernel,
                                    ring_neighbours(state.cells, pixel, columns, BEFORE))
    above = jax.lax.dynamic_index_in_dim(state.above, pixel % columns, axis=0, keepdims=False)
    state = state._replace(row=put(state.row, x, pixel), hidden=put(state.hidden, hidden, pixel),
                           cells=put(state.cells, cells, pixel))
    return x + self.to_residual(hidden + above), state


class DiagonalBiLSTM(PixelLSTM):
  """Diagonal BiLSTM's network, in which a pixel depends on all that comes before it.

  In one thing it differs from the paper's: the first layer's direction to the left reads the image itself as well.
  Without it the next row depends on the last pixel of a row only where the first convolution reaches it.
  """

  def __post_init__(self) -> None:
    self.check(("num_layers",), ("width", "head_width"))
    super().__post_init__()

  def layer(self, index):
    return DiagonalLayer(self.width, self.event[-1], self.num_layers, index == 0, self.dropout)

  def init_cache(self, num, dtype, y=None) -> DiagonalBiLSTMCache:
    return DiagonalBiLSTMCache(self.empty_codes(num, dtype),
                               tuple(layer.init_state(self.event[1], num, dtype) for layer in self.layers))

  @nn.nowrap
  def advance(self, variables, cache, previous, index):
    """As in the base; the direction to the left takes the whole row above at a row's first value, and rests then."""
    _, columns, channels = self.event
    apply: Any = functools.partial(self.apply, variables)
    cache = cache._replace(codes=self.put_previous(cache.codes, previous, index))
    above: Any = jax.lax.cond(
        index % (columns * channels) == 0,
        lambda cache: apply(cache, index, method="begin_row"),
        lambda cache: tuple(layer.above for layer in cache.layers), cache)
    layers = tuple(layer._replace(above=new) for layer, new in zip(cache.layers, above, strict=True))
    return apply(cache._replace(layers=layers), index, method="step")

  def begin_row(self, cache: DiagonalBiLSTMCache,
                index: Int[Array, ""]) -> tuple[Float[Array, "columns batch units"], ...]:
    """Return each layer's `above` for the row of `index`, whose rows above are known."""
    _, columns, channels = self.event
    row = index // (columns * channels)
    codes = jnp.moveaxis(rows_above(cache.codes, row, columns, 1)[:, 0], 0, 1)
    return tuple(jnp.where(row > 0, layer.begin_row(state, codes), 0.0)
                 for layer, state in zip(self.layers, cache.layers, strict=True))

  def step(self, cache: DiagonalBiLSTMCache,
           index: Int[Array, ""]) -> tuple[Float[Array, "batch outputs"], DiagonalBiLSTMCache]:
    """Return the outputs for the pixel of the value at `index`, whose row has begun, and the next cache."""
    _, columns, channels = self.event
    pixel, layers = index // channels, []
    x = self.begin_step(cache.codes, pixel)
    for layer, state in zip(self.layers, cache.layers, strict=True):
      x, state = layer.step(x, state, pixel, columns)
      layers.append(state)
    return self.read_out(x), cache._replace(layers=tuple(layers))


def diagonal_bilstm(spec: DataSpec, network: DiagonalBiLSTM = DiagonalBiLSTM()) -> ImageModel:
  """Return a Diagonal BiLSTM with a categorical distribution of each value.

  Args:
    spec: the data.
    network: its layers and their sizes.
  """
  return ImageModel(spec, network)
