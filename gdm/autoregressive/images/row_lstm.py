"""Row LSTM: a PixelRNN from row to row (van den Oord et al., arXiv:1601.06759, section 3.1).

A row's states come all at once from the row above, where a pixel depends on half a kernel to both sides. So it depends
on a triangle of the rows above, up to the top of the image.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.autoregressive.images import pixel_lstm
from gdm.autoregressive.images.image_model import ImageModel
from gdm.autoregressive.images.masked_convolution import (
  HERE,
  MaskedConvolution,
  Offsets,
  empty_ring,
  left,
  put,
  ring_neighbours,
)
from gdm.autoregressive.images.pixel_lstm import GATES, PixelLSTM, by_gate, recur, shifted
from gdm.dataspec import DataSpec
from gdm.networks.dropout import dropout

ABOVE: Offsets = ((-1, 0),)


class RowRings(NamedTuple):
  """Rings of the state of a layer's step.

  Attributes:
    x: the layer's inputs.
    hidden: its hidden units.
    cells: its memory cells.
  """

  x: Float[Array, "_ batch doubled"]
  hidden: Float[Array, "_ batch units"]
  cells: Float[Array, "_ batch units"]


class RowLSTMCache(NamedTuple):
  """The state of `RowLSTM.advance`.

  Attributes:
    codes: ring of the image's codes.
    layers: rings of each layer.
  """

  codes: Float[Array, "slots batch inputs"]
  layers: tuple[RowRings, ...]


class RowLayer(nn.Module):
  """x + W h, where h are the hidden units of an LSTM over rows (equation 3; figure 5, right).

  Attributes:
    width: hidden units; x has twice as many.
    kernel_size: of the convolutions along a row, of the inputs (mask B) and of the states above.
    channels: of the image.
    num_layers: how many layers add up; the weights that add start with a standard deviation divided by its root.
    dropout: rate on the hidden units that are added, not on those that the next row depends on.
  """

  width: int
  kernel_size: int
  channels: int
  num_layers: int
  dropout: float

  def setup(self) -> None:
    self.of_inputs = MaskedConvolution(GATES * self.width, (*left(self.kernel_size), *HERE), self.channels, "B",
                                       use_bias=False)
    self.bias = self.param("bias", pixel_lstm.forget_bias, (GATES * self.width,))
    # No mask: of the pixels above all channels are known.
    self.kernel = self.param("kernel", pixel_lstm.state_kernel, (self.kernel_size * self.width, GATES * self.width))
    self.to_residual = MaskedConvolution(2 * self.width, HERE, self.channels, "B",
                                         1.0 / math.sqrt(self.width * self.num_layers))

  @property
  def shifts(self) -> tuple[int, ...]:
    return tuple(range(-(self.kernel_size // 2), self.kernel_size // 2 + 1))

  @property
  def above(self) -> Offsets:
    return tuple((-1, shift) for shift in self.shifts)

  def gates(self, taps: Float[Array, "*shape taps_doubled"]) -> Float[Array, "*shape gates"]:
    """Return the inputs' part of the gates."""
    return by_gate(self.of_inputs.apply_taps(taps), self.channels) + self.bias

  def __call__(self, x: Float[Array, "height columns batch doubled"], codes: Array,
               key: Key[Array, ""] | None) -> Float[Array, "height columns batch doubled"]:
    del codes
    taps = shifted(x, tuple(shift for _, shift in self.of_inputs.taps))
    hidden = recur(self.shifts, self.gates(taps), self.kernel)
    return x + self.to_residual(dropout(key, hidden, self.dropout))

  def rings(self, columns: int, num: int, dtype: jnp.dtype) -> RowRings:
    return RowRings(empty_ring(self.of_inputs.offsets, columns, num, 2 * self.width, dtype),
                    empty_ring(self.above, columns, num, self.width, dtype),
                    empty_ring(ABOVE, columns, num, self.width, dtype))

  def step(self, x: Float[Array, "batch doubled"], rings: RowRings, pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch doubled"], RowRings]:
    """Return the same at one pixel, and its rings."""
    inputs = put(rings.x, x, pixel)
    gates = self.gates(ring_neighbours(inputs, pixel, columns, self.of_inputs.taps))
    hidden, cells = pixel_lstm.step(gates, ring_neighbours(rings.hidden, pixel, columns, self.above), self.kernel,
                                    ring_neighbours(rings.cells, pixel, columns, ABOVE))
    new = RowRings(inputs, put(rings.hidden, hidden, pixel), put(rings.cells, cells, pixel))
    return x + self.to_residual(hidden), new


class RowLSTM(PixelLSTM):
  """Row LSTM's network.

  A pixel depends on a triangle above it: each row further up reaches only half a kernel further right, however many
  layers there are, though up to the image's top. `DiagonalBiLSTM` depends on all that comes before.

  Attributes:
    kernel_size: kernel size, odd, of the layers' convolutions along a row, of the inputs (mask B) and of the states
      above; the first convolution has mask A.
  """

  kernel_size: int = 3

  def __post_init__(self) -> None:
    self.check(("num_layers",), ("width", "head_width"), ("first_size", "kernel_size"))
    super().__post_init__()

  def layer(self, index):
    return RowLayer(self.width, self.kernel_size, self.event[-1], self.num_layers, self.dropout)

  def init_cache(self, num, dtype, y=None) -> RowLSTMCache:
    return RowLSTMCache(self.empty_codes(num, dtype),
                        tuple(layer.rings(self.event[1], num, dtype) for layer in self.layers))

  @nn.nowrap
  def advance(self, variables, cache, previous, index):
    return self.apply(variables, cache, previous, index, method="step")

  def step(self, cache: RowLSTMCache, previous: Int[Array, " batch"],
           index: Int[Array, ""]) -> tuple[Float[Array, "batch outputs"], RowLSTMCache]:
    """Return the outputs for the pixel of the value at `index`, and the next cache; `previous` is the value before."""
    _, columns, channels = self.event
    pixel, layers = index // channels, []
    codes = self.put_previous(cache.codes, previous, index)
    x = self.begin_step(codes, pixel)
    for layer, rings in zip(self.layers, cache.layers, strict=True):
      x, rings = layer.step(x, rings, pixel, columns)
      layers.append(rings)
    return self.read_out(x), RowLSTMCache(codes, tuple(layers))


def row_lstm(spec: DataSpec, network: RowLSTM = RowLSTM()) -> ImageModel:
  """Return a Row LSTM with a categorical distribution of each value.

  Args:
    spec: the data.
    network: its layers and their sizes.
  """
  return ImageModel(spec, network)
