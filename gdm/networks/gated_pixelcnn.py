"""Gated PixelCNN: its network of two stacks (van den Oord et al., arXiv:1606.05328, sections 2.1 to 2.3).

The vertical stack knows all rows above a pixel's own, the horizontal stack that and what comes before the pixel in its
row. Together they see all that comes before.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from gdm.networks.blocks import end_of_block
from gdm.networks.dropout import dropout, dropout_scale
from gdm.networks.masked_convolution import (
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
from gdm.networks.pixel_codes import PixelBias, image_codes, num_codes, put_value


class Cache(NamedTuple):
  """What a step needs of the pixels before it.

  Attributes:
    codes: ring of the image's codes.
    rings: of each block's horizontal convolution, but for the first, whose inputs are the codes.
    rows: of each block's vertical convolution, but for the first: its inputs in the last rows above the pixel's own.
    above: what each block's vertical stack and the label say to the horizontal stack in the pixel's row.
    y: labels, of a network that is conditional on them.
  """

  codes: Float[Array, "slots batch inputs"]
  rings: tuple[Float[Array, "_ batch _"], ...]
  rows: tuple[Float[Array, "batch _ columns _"], ...]
  above: tuple[Float[Array, "columns batch _"], ...]
  y: Int[Array, " batch"] | None


def gate(x: Float[Array, "*shape doubled"], channels: int) -> Float[Array, "*shape units"]:
  """tanh times sigmoid (equation 2); each group of units holds first what goes through the one, then the other."""
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
    """From the image the rows above; the vertical stack's own row knows no more than those."""
    return strictly_above(self.kernel_size) if self.is_first else above(self.kernel_size)

  @property
  def horizontal_offsets(self) -> tuple[tuple[int, int], ...]:
    return (*left(self.kernel_size), *HERE)

  def of_label(self, y: Int[Array, " batch"] | None) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """What labels add to the gates of the vertical and of the horizontal stack: [batch, units] or zeros."""
    if y is None:
      return jnp.zeros(()), jnp.zeros(())
    down, across = jnp.split(self.labels(jax.nn.one_hot(y, self.num_classes)), 2, axis=-1)
    return down, across

  def outputs(self, x: Float[Array, "*shape inputs"], gates: Float[Array, "*shape doubled"],
              key: Key[Array, ""] | None) -> tuple[Float[Array, "*shape units"], Float[Array, "*shape skip"]]:
    """What the horizontal stack takes to the next layer, and what it adds to the sum."""
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
    """Vertical stack, horizontal stack, and what is added to the sum; `place` is added to the latter's gates."""
    down_label, label = (part[..., None, None, :] if part.ndim else part for part in self.of_label(y))
    v_key, x_key = (None, None) if key is None else jax.random.split(key)
    down = self.vertical(v) + down_label
    x, skip = self.outputs(x, self.horizontal(x) + self.across(down) + label + place, x_key)
    return dropout(v_key, gate(down, 1), self.dropout), end_of_block(x), skip

  def row(self, rows: Float[Array, "batch rows columns inputs"],
          y: Int[Array, " batch"] | None) -> tuple[Float[Array, "batch columns units"],
                                                   Float[Array, "columns batch doubled"]]:
    """One row of the vertical stack, and what it and the label say to the horizontal stack there."""
    down_label, label = (part[..., None, :] if part.ndim else part for part in self.of_label(y))
    down = self.vertical.of_taps(row_neighbours(rows, self.vertical_offsets)) + down_label
    return gate(down, 1), jnp.moveaxis(self.across(down) + label, 0, 1)

  def step(self, x: Float[Array, "batch inputs"], ring: Float[Array, "slots batch inputs"],
           told: Float[Array, "batch doubled"], pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch units"], Float[Array, "batch skip"]]:
    """The horizontal stack at one pixel, whose ring holds x, and what is added to the sum."""
    return self.outputs(x, self.horizontal.step(ring, pixel, columns) + told, None)


class GatedPixelCNNNetwork(nn.Module):
  """Images to the logits of their values.

  Attributes:
    event: (height, width, channels).
    levels: values of a channel of a pixel.
    width: units of each stack.
    skip_width: units of the sum that all layers add to, and of the layer after it.
    num_layers: layers.
    first_size: kernel size of the first layer.
    kernel_size: of the others.
    located: whether the first layer's gates have a bias for each pixel.
    num_classes: of the labels that it is conditional on; 0 where it is not.
    input_dropout: rate on pixels as inputs.
    dropout: rate on what the gates let through.
  """

  event: tuple[int, int, int]
  levels: int
  width: int
  skip_width: int
  num_layers: int
  first_size: int
  kernel_size: int
  located: bool
  num_classes: int
  input_dropout: float
  dropout: float

  def setup(self) -> None:
    channels, last = self.event[-1], self.num_layers - 1
    self.layers = [GatedLayer(self.width, self.skip_width, self.kernel_size if i else self.first_size, channels,
                              self.num_layers, i == 0, i == last, self.num_classes, self.dropout)
                   for i in range(self.num_layers)]
    if self.located:
      self.place = PixelBias(*self.event[:2], 2 * self.width)
    self.hidden = MaskedConvolution(self.skip_width, HERE, channels, "B", math.sqrt(2.0 / self.skip_width))
    self.readout = MaskedConvolution(channels * self.levels, HERE, channels, "B")

  def logits(self, skip: Float[Array, "*shape skip"]) -> Float[Array, "*shape channels levels"]:
    logits = self.readout(jax.nn.relu(self.hidden(jax.nn.relu(skip))))
    return logits.reshape(*skip.shape[:-1], self.event[-1], self.levels)

  def __call__(self, x: Num[Array, "batch height columns channels"], key: Key[Array, ""] | None = None,
               y: Int[Array, " batch"] | None = None) -> Float[Array, "batch height columns channels levels"]:
    """Logits of each value given those before it in raster order, channels innermost; a key means training."""
    return self.of_codes(image_codes(x, self.levels), key, y)

  def of_codes(self, codes: Float[Array, "batch height columns inputs"], key: Key[Array, ""] | None = None,
               y: Int[Array, " batch"] | None = None) -> Float[Array, "batch height columns channels levels"]:
    """The same, from the values' codes."""
    first, *keys = [None] * (self.num_layers + 1) if key is None else jax.random.split(key, self.num_layers + 1)
    codes = codes * dropout_scale(first, (*codes.shape[:-1], 1), self.input_dropout)
    v, x, total = codes, codes, jnp.zeros(())
    for i, (layer, layer_key) in enumerate(zip(self.layers, keys, strict=True)):
      v, x, skip = layer(v, x, y, layer_key, self.place() if self.located and i == 0 else 0.0)
      total = total + skip
    return self.logits(total)

  def init_cache(self, num: int, dtype: jnp.dtype, y: Int[Array, " batch"] | None = None) -> Cache:
    _, columns, channels = self.event
    inputs = channels * num_codes(self.levels)
    first, *others = self.layers
    return Cache(
        empty_ring(above_and_left(first.kernel_size), columns, num, inputs, dtype),
        tuple(empty_ring(layer.horizontal_offsets, columns, num, self.width, dtype) for layer in others),
        tuple(jnp.zeros((num, layer.kernel_size // 2, columns, self.width), dtype) for layer in others),
        tuple(jnp.zeros((columns, num, 2 * self.width), dtype) for _ in self.layers), y)

  def put(self, previous: Int[Array, " batch"], cache: Cache, index: Int[Array, ""]) -> Cache:
    """The cache that knows the value before `index`."""
    return cache._replace(codes=put_value(cache.codes, previous, index - 1, self.event[-1], self.levels))

  def begin_row(self, cache: Cache, index: Int[Array, ""]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """`rows` and `above` of the cache in the row of `index`, all of its pixels at once: the rows above are known."""
    _, columns, channels = self.event
    first, *others = self.layers
    known = rows_above(cache.codes, index // (columns * channels), columns, first.kernel_size // 2)
    v, told = first.row(known, cache.y)
    rows, above = [], [told]
    for layer, old in zip(others, cache.rows, strict=True):
      seen = jnp.concatenate([old, v[:, None]], axis=1)
      rows.append(seen[:, 1:])
      v, told = layer.row(seen, cache.y)
      above.append(told)
    return tuple(rows), tuple(above)

  def step(self, cache: Cache, index: Int[Array, ""]) -> tuple[Float[Array, "batch levels"], Cache]:
    """Logits of the value at `index`, from a cache that knows the value before it and has begun its row.

    Each channel of a pixel takes a step through all layers. Those that are not known yet are masked, and what they
    would have changed is written again with the next.
    """
    _, columns, channels = self.event
    pixel, rings = index // channels, []
    x, total = cache.codes[0], jnp.zeros(())  # of the first layer only the ring counts
    for i, layer in enumerate(self.layers):
      ring = put(cache.rings[i - 1], x, pixel) if i else cache.codes
      told = jax.lax.dynamic_index_in_dim(cache.above[i], pixel % columns, axis=0, keepdims=False)
      told = told + self.place.at(pixel) if self.located and i == 0 else told
      x, skip = layer.step(x, ring, told, pixel, columns)
      total = total + skip
      rings.append(ring)
    logits = jax.lax.dynamic_index_in_dim(self.logits(total), index % channels, axis=1, keepdims=False)
    return logits, cache._replace(rings=tuple(rings[1:]))
