"""Gated PixelCNN: two stacks of gated convolutions, and no blind spot (van den Oord et al., arXiv:1606.05328,
sections 2.1 to 2.3).

The vertical stack depends on all rows above a pixel's row, the horizontal stack on these and on the pixels to the left.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.autoregressive.images.image_model import ImageModel
from gdm.autoregressive.images.image_network import ImageNetwork
from gdm.autoregressive.images.masked_convolution import (
  HERE,
  MaskedConvolution,
  above,
  above_and_left,
  empty_ring,
  left,
  put,
  row_neighbours,
  rows_above,
  strictly_above,
)
from gdm.autoregressive.images.pixel_codes import PixelBias, num_codes, put_value
from gdm.dataspec import DataSpec
from gdm.networks.dropout import dropout, dropout_scale
from gdm.networks.from_data import from_data
from gdm.stages import end_of_stage


class GatedPixelCNNCache(NamedTuple):
  """The state of `GatedPixelCNN.advance`.

  Attributes:
    codes: ring of the image's codes.
    rings: rings of the inputs of each layer's horizontal convolution, but for the first, whose inputs are the codes.
    rows: inputs of each layer's vertical convolution, but for the first, in the last rows above the present one.
    from_vertical: contribution of each layer's vertical stack and of labels to the horizontal gates in the present row.
    y: labels, of a network that is conditional on them.
  """

  codes: Float[Array, "slots batch inputs"]
  rings: tuple[Float[Array, "_ batch _"], ...]
  rows: tuple[Float[Array, "batch _ columns _"], ...]
  from_vertical: tuple[Float[Array, "columns batch _"], ...]
  y: Int[Array, " batch"] | None


def gate(x: Float[Array, "*shape doubled"], channels: int) -> Float[Array, "*shape units"]:
  """Return tanh times sigmoid (equation 2); each group of units holds first the tanh's, then the sigmoid's inputs."""
  parts = x.reshape(*x.shape[:-1], channels, 2, -1)
  return (jnp.tanh(parts[..., 0, :]) * jax.nn.sigmoid(parts[..., 1, :])).reshape(*x.shape[:-1], -1)


class GatedLayer(nn.Module):
  """One layer of both stacks: figure 2.

  Attributes:
    width: units of each stack.
    skip_width: units of the sum that all layers add to.
    kernel_size: of both convolutions.
    channels: of the image.
    num_layers: how many layers add up; the weights that add start with a standard deviation divided by its root.
    is_first: whether the inputs are the image itself.
    is_last: whether there is no next layer.
    num_classes: of the labels that both gates depend on (equation 4); 0 where there are none.
    dropout: rate on what the gates let through.
  """

  width: int
  skip_width: int
  kernel_size: int
  channels: int
  num_layers: int
  is_first: bool
  is_last: bool
  num_classes: int
  dropout: float

  def setup(self) -> None:
    if self.num_classes:
      self.labels = MaskedConvolution(4 * self.width, HERE, use_bias=False)
    self.vertical = MaskedConvolution(2 * self.width, self.vertical_offsets)
    self.across = MaskedConvolution(2 * self.width, HERE, use_bias=False)
    self.horizontal = MaskedConvolution(2 * self.width, self.horizontal_offsets, self.channels,
                                        "A" if self.is_first else "B")
    added = 1.0 / math.sqrt(self.width * self.num_layers)
    self.to_skip = MaskedConvolution(self.skip_width, HERE, self.channels, "B", added)
    if not self.is_last:
      self.to_residual = MaskedConvolution(self.width, HERE, self.channels, "B", added)

  @property
  def vertical_offsets(self) -> tuple[tuple[int, int], ...]:
    """Return the rows above; the vertical stack depends on no more than these in its present row."""
    return strictly_above(self.kernel_size) if self.is_first else above(self.kernel_size)

  @property
  def horizontal_offsets(self) -> tuple[tuple[int, int], ...]:
    return (*left(self.kernel_size), *HERE)

  def label_bias(self, y: Int[Array, " batch"] | None) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return biases [batch, units] of the gates of the vertical and the horizontal stack, by labels; zeros for none."""
    if y is None:
      return jnp.zeros(()), jnp.zeros(())
    down, across = jnp.split(self.labels(jax.nn.one_hot(y, self.num_classes)), 2, axis=-1)
    return down, across

  def outputs(self, x: Float[Array, "*shape inputs"], gates: Float[Array, "*shape doubled"],
              key: Key[Array, ""] | None) -> tuple[Float[Array, "*shape units"], Float[Array, "*shape skip"]]:
    """Return the horizontal stack's outputs for the next layer, and its addend to the sum."""
    z = dropout(key, gate(gates, self.channels), self.dropout)
    if self.is_last:
      return z, self.to_skip(z)
    added = self.to_residual(z)
    return added if self.is_first else x + added, self.to_skip(z)

  def __call__(self, v: Float[Array, "batch height columns inputs"], x: Float[Array, "batch height columns inputs"],
               y: Int[Array, " batch"] | None, key: Key[Array, ""] | None,
               place: Float[Array, "height columns doubled"] | float) -> tuple[
                   Float[Array, "batch height columns units"], Float[Array, "batch height columns units"],
                   Float[Array, "batch height columns skip"]]:
    """Return the vertical stack, the horizontal stack, and the addend to the sum; `place` is added to its gates."""
    down_label, label = (part[..., None, None, :] if part.ndim else part for part in self.label_bias(y))
    v_key, x_key = (None, None) if key is None else jax.random.split(key)
    down = self.vertical(v) + down_label
    x, skip = self.outputs(x, self.horizontal(x) + self.across(down) + label + place, x_key)
    return dropout(v_key, gate(down, 1), self.dropout), end_of_stage(x), skip

  def row(self, rows: Float[Array, "batch rows columns inputs"],
          y: Int[Array, " batch"] | None) -> tuple[Float[Array, "batch columns units"],
                                                   Float[Array, "columns batch doubled"]]:
    """Return one row of the vertical stack, and its and the label's contribution to the horizontal gates there."""
    down_label, label = (part[..., None, :] if part.ndim else part for part in self.label_bias(y))
    down = self.vertical.apply_taps(row_neighbours(rows, self.vertical_offsets)) + down_label
    return gate(down, 1), jnp.moveaxis(self.across(down) + label, 0, 1)

  def step(self, x: Float[Array, "batch inputs"], ring: Float[Array, "slots batch inputs"],
           from_vertical: Float[Array, "batch doubled"], pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch units"], Float[Array, "batch skip"]]:
    """Return the horizontal stack at one pixel, whose ring holds x, and the addend to the sum."""
    return self.outputs(x, self.horizontal.step(ring, pixel, columns) + from_vertical, None)


class GatedPixelCNN(ImageNetwork):
  """Gated PixelCNN's network of two stacks, which may be conditional on labels (section 2.3).

  Attributes:
    width: units of the vertical and of the horizontal stack.
    skip_width: units of the sum that all layers add to, and of the layer after it.
    num_layers: layers.
    kernel_size: kernel size, odd, of the layers after the first, which have mask B; the first has mask A.
    num_classes: labels; 0 where the network is not conditional.
  """

  width: int = 72  # a multiple of one channel and of three
  skip_width: int = 144
  num_layers: int = 8
  kernel_size: int = 3
  num_classes: int = from_data(0)

  def __post_init__(self) -> None:
    self.check(("num_layers",), ("width", "skip_width"), ("first_size", "kernel_size"))
    super().__post_init__()

  def setup(self) -> None:
    channels, last = self.event[-1], self.num_layers - 1
    self.layers = [GatedLayer(self.width, self.skip_width, self.kernel_size if i else self.first_size, channels,
                              self.num_layers, i == 0, i == last, self.num_classes, self.dropout)
                   for i in range(self.num_layers)]
    if self.located:
      self.place = PixelBias(*self.event[:2], 2 * self.width)
    self.hidden = MaskedConvolution(self.skip_width, HERE, channels, "B", math.sqrt(2.0 / self.skip_width))
    self.readout = MaskedConvolution(self.outputs, HERE, channels, "B")

  def read_out(self, skip: Float[Array, "*shape skip"]) -> Float[Array, "*shape outputs"]:
    return self.readout(jax.nn.relu(self.hidden(jax.nn.relu(skip))))

  def outputs_from_codes(self, codes, key=None, y=None):
    first, *keys = [None] * (self.num_layers + 1) if key is None else jax.random.split(key, self.num_layers + 1)
    codes = codes * dropout_scale(first, (*codes.shape[:-1], 1), self.input_dropout)
    v, x, total = codes, codes, jnp.zeros(())
    for i, (layer, layer_key) in enumerate(zip(self.layers, keys, strict=True)):
      v, x, skip = layer(v, x, y, layer_key, self.place() if self.located and i == 0 else 0.0)
      total = total + skip
    return self.read_out(total)

  def init_cache(self, num, dtype, y=None) -> GatedPixelCNNCache:
    _, columns, channels = self.event
    inputs = channels * num_codes(self.levels)
    first, *others = self.layers
    return GatedPixelCNNCache(
        empty_ring(above_and_left(first.kernel_size), columns, num, inputs, dtype),
        tuple(empty_ring(layer.horizontal_offsets, columns, num, self.width, dtype) for layer in others),
        tuple(jnp.zeros((num, layer.kernel_size // 2, columns, self.width), dtype) for layer in others),
        tuple(jnp.zeros((columns, num, 2 * self.width), dtype) for _ in self.layers), y)

  @nn.nowrap
  def advance(self, variables, cache, previous, index):
    """As in the base; the vertical stack takes a whole row at its first value, and rests until the next."""
    _, columns, channels = self.event
    apply: Any = functools.partial(self.apply, variables)
    cache = cache._replace(codes=put_value(cache.codes, previous, index - 1, channels, self.levels))
    rows, from_vertical = jax.lax.cond(
        index % (columns * channels) == 0,
        lambda cache: apply(cache, index, method="begin_row"),
        lambda cache: (cache.rows, cache.from_vertical), cache)
    return apply(cache._replace(rows=rows, from_vertical=from_vertical), index, method="step")

  def begin_row(self, cache: GatedPixelCNNCache,
                index: Int[Array, ""]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Return the cache's `rows` and `from_vertical` for the row of `index`, whose rows above are known."""
    _, columns, channels = self.event
    first, *others = self.layers
    codes_above = rows_above(cache.codes, index // (columns * channels), columns, first.kernel_size // 2)
    v, contribution = first.row(codes_above, cache.y)
    rows, from_vertical = [], [contribution]
    for layer, old in zip(others, cache.rows, strict=True):
      inputs = jnp.concatenate([old, v[:, None]], axis=1)
      rows.append(inputs[:, 1:])
      v, contribution = layer.row(inputs, cache.y)
      from_vertical.append(contribution)
    return tuple(rows), tuple(from_vertical)

  def step(self, cache: GatedPixelCNNCache,
           index: Int[Array, ""]) -> tuple[Float[Array, "batch outputs"], GatedPixelCNNCache]:
    """Return the outputs for the pixel of the value at `index`, whose row has begun, and the next cache."""
    _, columns, channels = self.event
    pixel, rings = index // channels, []
    x, total = cache.codes[0], jnp.zeros(())  # of the first layer only the ring counts
    for i, layer in enumerate(self.layers):
      ring = put(cache.rings[i - 1], x, pixel) if i else cache.codes
      gates = jax.lax.dynamic_index_in_dim(cache.from_vertical[i], pixel % columns, axis=0, keepdims=False)
      gates = gates + self.place.at(pixel) if self.located and i == 0 else gates
      x, skip = layer.step(x, ring, gates, pixel, columns)
      total = total + skip
      rings.append(ring)
    return self.read_out(total), cache._replace(rings=tuple(rings[1:]))


def gated_pixelcnn(spec: DataSpec, network: GatedPixelCNN = GatedPixelCNN(),
                   class_conditional: bool = False) -> ImageModel:
  """Return a Gated PixelCNN with a categorical distribution of each value, given labels if `class_conditional`.

  Args:
    spec: the data.
    network: its layers and their sizes.
    class_conditional: whether it is given labels.
  """
  return ImageModel(spec, network, class_conditional=class_conditional)
