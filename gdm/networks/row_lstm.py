"""Row LSTM: PixelRNN's network that goes from row to row (van den Oord et al., arXiv:1601.06759, section 3.1).

A row's states come all at once from those of the row above, where a pixel sees half a kernel to both sides. So of the
rows above it knows a triangle, up to the top of the image.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.networks import pixel_lstm
from gdm.networks.dropout import dropout
from gdm.networks.masked_convolution import (
    HERE,
    MaskedConvolution,
    Offsets,
    above_and_left,
    empty_ring,
    left,
    put,
    ring_neighbours,
)
from gdm.networks.pixel_codes import num_codes, put_value
from gdm.networks.pixel_lstm import GATES, PixelLSTMNetwork, by_gate, recur, shifted

ABOVE: Offsets = ((-1, 0),)


class Rings(NamedTuple):
  """What a layer's step needs of the pixels before it.

  Attributes:
    x: its inputs.
    hidden: its hidden units.
    cells: its memory cells.
  """

  x: Float[Array, "_ batch doubled"]
  hidden: Float[Array, "_ batch units"]
  cells: Float[Array, "_ batch units"]


class RowLayer(nn.Module):
  """x + W h, where h are the hidden units of an LSTM over rows (equation 3; figure 5, right).

  Attributes:
    width: hidden units; x has twice as many.
    kernel_size: of the convolutions along a row, that of the inputs, of mask B, and that of the states above.
    channels: of the image.
    num_layers: how many layers add up; the weights that add start with a standard deviation divided by its root.
    dropout: rate on the hidden units that are added, not on those that the next row sees.
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
    """The inputs' part of the gates."""
    return by_gate(self.of_inputs.of_taps(taps), self.channels) + self.bias

  def __call__(self, x: Float[Array, "height columns batch doubled"], codes: Array,
               key: Key[Array, ""] | None) -> Float[Array, "height columns batch doubled"]:
    del codes
    taps = shifted(x, tuple(shift for _, shift in self.of_inputs.taps))
    hidden = recur(self.shifts, self.gates(taps), self.kernel)
    return x + self.to_residual(dropout(key, hidden, self.dropout))

  def rings(self, columns: int, num: int, dtype: jnp.dtype) -> Rings:
    return Rings(empty_ring(self.of_inputs.offsets, columns, num, 2 * self.width, dtype),
                 empty_ring(self.above, columns, num, self.width, dtype),
                 empty_ring(ABOVE, columns, num, self.width, dtype))

  def step(self, x: Float[Array, "batch doubled"], rings: Rings, pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch doubled"], Rings]:
    """The same at one pixel, and its rings."""
    inputs = put(rings.x, x, pixel)
    gates = self.gates(ring_neighbours(inputs, pixel, columns, self.of_inputs.taps))
    hidden, cells = pixel_lstm.step(gates, ring_neighbours(rings.hidden, pixel, columns, self.above), self.kernel,
                                    ring_neighbours(rings.cells, pixel, columns, ABOVE))
    known = Rings(inputs, put(rings.hidden, hidden, pixel), put(rings.cells, cells, pixel))
    return x + self.to_residual(hidden), known


class RowLSTMNetwork(PixelLSTMNetwork):
  """Images to the logits of their values.

  Attributes:
    kernel_size: of the layers' convolutions along a row; others as in the base.
  """

  kernel_size: int

  def layer(self, index):
    return RowLayer(self.width, self.kernel_size, self.event[-1], self.num_layers, self.dropout)

  def init_cache(self, num: int, dtype: jnp.dtype) -> tuple[Float[Array, "slots batch inputs"], tuple[Rings, ...]]:
    """Rings of the codes and of each layer."""
    _, columns, channels = self.event
    codes = empty_ring(above_and_left(self.first_size), columns, num, channels * num_codes(self.levels), dtype)
    return codes, tuple(layer.rings(columns, num, dtype) for layer in self.layers)

  def step(self, previous: Int[Array, " batch"],
           cache: tuple[Float[Array, "slots batch inputs"], tuple[Rings, ...]],
           index: Int[Array, ""]) -> tuple[Float[Array, "batch levels"], tuple[Array, tuple[Rings, ...]]]:
    """Logits of the value at `index`; `previous` is the value before it.

    Each channel of a pixel takes a step through all layers. Those that are not known yet are masked, and what they
    would have changed is written again with the next.
    """
    _, columns, channels = self.event
    pixel, (codes, old), new = index // channels, cache, []
    codes = put_value(codes, previous, index - 1, channels, self.levels)
    x = self.first.step(codes, pixel, columns) + (self.place.at(pixel) if self.located else 0.0)
    for layer, rings in zip(self.layers, old, strict=True):
      x, rings = layer.step(x, rings, pixel, columns)
      new.append(rings)
    logits = jax.lax.dynamic_index_in_dim(self.logits(x), index % channels, axis=1, keepdims=False)
    return logits, (codes, tuple(new))
