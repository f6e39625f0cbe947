"""PixelSNAIL: causal convolutions that see near, attention that sees all (Chen et al., arXiv:1712.09763).

Each block is a few gated residual convolutions and then an attention to all pixels before. So there is no blind spot,
and what lies far away is one step away.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.networks.blocks import end_of_block
from gdm.networks.dropout import dropout, dropout_scale
from gdm.networks.gated_pixelcnn import gate
from gdm.networks.masked_convolution import HERE, MaskedConvolution, Offsets, above_and_left, empty_ring, put
from gdm.networks.pixel_codes import PixelBias, image_codes, num_codes, put_value


class Seen(NamedTuple):
  """Keys and values of all pixels, in raster order; those of later ones are not looked at."""

  key: Float[Array, "batch heads pixels size"]
  value: Float[Array, "batch heads pixels size"]


class Cache(NamedTuple):
  """What a step needs of the pixels before it: of the codes, of each convolution and of each attention."""

  codes: Float[Array, "slots batch inputs"]
  rings: tuple[tuple[Float[Array, "_ batch _"], ...], ...]
  seen: tuple[Seen, ...]


class GatedConvolution(nn.Module):
  """x + gate(W elu(masked convolution(elu(x)))): the residual block of section 2.2, without its auxiliary input.

  Attributes:
    width: units of x.
    kernel_size: of the convolution.
    channels: of the image.
    num_layers: how many layers add up in the whole network.
    dropout: rate on what is gated, before its layer.
  """

  width: int
  kernel_size: int
  channels: int
  num_layers: int
  dropout: float

  def setup(self) -> None:
    self.convolution = MaskedConvolution(self.width, self.offsets, self.channels, "B",
                                         math.sqrt(2.0 / (len(self.offsets) * self.width)))
    self.gates = MaskedConvolution(2 * self.width, HERE, self.channels, "B",
                                   math.sqrt(2.0 / (self.width * self.num_layers)))

  @property
  def offsets(self) -> Offsets:
    return (*above_and_left(self.kernel_size), *HERE)

  def added(self, convolved: Float[Array, "*shape width"], key: Key[Array, ""] | None) -> Float[Array, "*shape width"]:
    parts = self.gates(dropout(key, jax.nn.elu(convolved), self.dropout))
    return gate(parts, self.channels)

  def __call__(self, x: Float[Array, "batch height columns width"],
               key: Key[Array, ""] | None) -> Float[Array, "batch height columns width"]:
    return end_of_block(x + self.added(self.convolution(jax.nn.elu(x)), key))

  def step(self, x: Float[Array, "batch width"], ring: Float[Array, "slots batch width"], pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch width"], Float[Array, "slots batch width"]]:
    """The same at one pixel, and the ring of its convolution."""
    ring = put(ring, jax.nn.elu(x), pixel)
    return x + self.added(self.convolution.step(ring, pixel, columns), None), ring


class PixelAttention(nn.Module):
  """x + what each pixel finds by attending to the pixels before it (section 2.1); the first one finds zeros.

  Keys and values know their pixel's values themselves, which x does not. Queries know what the channel may know that
  they serve, so heads come in as many groups as the image has channels.

  Attributes:
    event: (height, columns, channels) of the image.
    width: units of x.
    heads: number of heads.
    head_size: units of a head.
    num_layers: how many layers add up in the whole network.
    dropout: rate on what is found.
  """

  event: tuple[int, int, int]
  width: int
  heads: int
  head_size: int
  num_layers: int
  dropout: float

  def setup(self) -> None:
    height, columns, channels = self.event
    units = self.heads * self.head_size
    self.place = PixelBias(height, columns, self.width)
    self.query = MaskedConvolution(units, HERE, channels, "B")
    self.key, self.value = MaskedConvolution(units, HERE), MaskedConvolution(units, HERE)
    self.key_of_code, self.value_of_code = (MaskedConvolution(units, HERE, use_bias=False) for _ in range(2))
    self.out = MaskedConvolution(self.width, HERE, channels, "B", 1.0 / math.sqrt(units * self.num_layers))

  def __call__(self, x: Float[Array, "batch height columns width"], codes: Float[Array, "batch height columns inputs"],
               key: Key[Array, ""] | None) -> Float[Array, "batch height columns width"]:
    where = x + self.place()
    query, keys, values = (units.reshape(len(x), -1, self.heads, self.head_size).swapaxes(1, 2) for units in (
        self.query(where), self.key(where) + self.key_of_code(codes), self.value(x) + self.value_of_code(codes)))
    before = jnp.tri(query.shape[2], k=-1, dtype=bool)
    found = attention_weights(query, keys, before) @ values
    found = found.swapaxes(1, 2).reshape(*x.shape[:-1], -1)
    return end_of_block(x + self.out(dropout(key, found, self.dropout)))

  def step(self, x: Float[Array, "batch width"], before: Float[Array, "batch inputs"], seen: Seen,
           pixel: Int[Array, ""]) -> tuple[Float[Array, "batch width"], Seen]:
    """The same at one pixel, and what later pixels see so far of it: its own codes come with the next pixel.

    `before` are the codes of the pixel before it, zeros where they were taken in already.
    """
    where = x + self.place.at(pixel)
    seen = Seen(*(_add_at(old, pixel - 1, self._by_heads(layer(before)))
                  for old, layer in zip(seen, (self.key_of_code, self.value_of_code), strict=True)))
    seen = Seen(*(jax.lax.dynamic_update_slice_in_dim(old, self._by_heads(new).astype(old.dtype), pixel, axis=2)
                  for old, new in zip(seen, (self.key(where), self.value(x)), strict=True)))
    weights = attention_weights(self._by_heads(self.query(where)), seen.key, jnp.arange(seen.key.shape[2]) < pixel)
    return x + self.out((weights @ seen.value).reshape(len(x), -1)), seen

  def empty(self, num: int, dtype: jnp.dtype) -> Seen:
    """Room for the keys and values of all pixels."""
    shape = (num, self.heads, self.event[0] * self.event[1], self.head_size)
    return Seen(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

  def _by_heads(self, x: Float[Array, "batch units"]) -> Float[Array, "batch heads 1 size"]:
    return x.reshape(len(x), self.heads, 1, self.head_size)


def _add_at(x: Float[Array, "batch heads pixels size"], pixel: Int[Array, ""],
            added: Float[Array, "batch heads 1 size"]) -> Float[Array, "batch heads pixels size"]:
  """x with something added at one pixel; nothing comes before the first, so at -1 what is added is zero."""
  old = jax.lax.dynamic_slice_in_dim(x, pixel, 1, axis=2)
  return jax.lax.dynamic_update_slice_in_dim(x, old + added.astype(x.dtype), pixel, axis=2)


def attention_weights(query: Float[Array, "batch heads queries size"], key: Float[Array, "batch heads keys size"],
                      before: Bool[Array, "*queries keys"]) -> Float[Array, "batch heads queries keys"]:
  """Softmax over the keys that come before a query (Vaswani et al., arXiv:1706.03762, equation 1); zeros for none."""
  products = (query * query.shape[-1] ** -0.5) @ key.swapaxes(2, 3)
  masked = jnp.where(before, products, -jnp.inf)
  largest = jax.lax.stop_gradient(jnp.max(masked, axis=-1, keepdims=True))
  weights = jnp.exp(masked - jnp.where(jnp.isfinite(largest), largest, 0.0))
  total = jnp.sum(weights, axis=-1, keepdims=True)
  return weights / jnp.where(total > 0.0, total, 1.0)


class PixelSNAILNetwork(nn.Module):
  """Images to the logits of their values.

  Attributes:
    event: (height, width, channels).
    levels: values of a channel of a pixel.
    width: units.
    num_blocks: blocks, each of which ends with an attention.
    num_layers: gated convolutions of a block.
    first_size: kernel size of the first convolution, of mask A.
    kernel_size: of the others.
    heads: of each attention.
    head_size: units of a head.
    head_width: units of the layer before the logits.
    located: whether the first layer has a bias for each pixel.
    input_dropout: rate on pixels as inputs.
    dropout: rate within the layers.
  """

  event: tuple[int, int, int]
  levels: int
  width: int
  num_blocks: int
  num_layers: int
  first_size: int
  kernel_size: int
  heads: int
  head_size: int
  head_width: int
  located: bool
  input_dropout: float
  dropout: float

  def setup(self) -> None:
    channels, adding = self.event[-1], self.num_blocks * (self.num_layers + 1)
    self.first = MaskedConvolution(self.width, (*above_and_left(self.first_size), *HERE), channels, "A")
    if self.located:
      self.place = PixelBias(*self.event[:2], self.width)
    self.layers = [[GatedConvolution(self.width, self.kernel_size, channels, adding, self.dropout)
                    for _ in range(self.num_layers)] for _ in range(self.num_blocks)]
    self.attentions = [PixelAttention(self.event, self.width, self.heads, self.head_size, adding, self.dropout)
                       for _ in range(self.num_blocks)]
    self.hidden = MaskedConvolution(self.head_width, HERE, channels, "B")
    self.readout = MaskedConvolution(channels * self.levels, HERE, channels, "B")

  def logits(self, x: Float[Array, "*shape width"]) -> Float[Array, "*shape channels levels"]:
    logits = self.readout(jax.nn.elu(self.hidden(jax.nn.elu(x))))
    return logits.reshape(*x.shape[:-1], self.event[-1], self.levels)

  def __call__(self, x: Num[Array, "batch height columns channels"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch height columns channels levels"]:
    """Logits of each value given those before it in raster order, channels innermost; a key means training."""
    return self.of_codes(image_codes(x, self.levels), key)

  def of_codes(self, codes: Float[Array, "batch height columns inputs"],
               key: Key[Array, ""] | None = None) -> Float[Array, "batch height columns channels levels"]:
    """The same, from the values' codes."""
    num = 1 + self.num_blocks * (self.num_layers + 1)
    keys = iter([None] * num if key is None else jax.random.split(key, num))
    codes = codes * dropout_scale(next(keys), (*codes.shape[:-1], 1), self.input_dropout)
    x = self.first(codes) + (self.place() if self.located else 0.0)
    for layers, attention in zip(self.layers, self.attentions, strict=True):
      for layer in layers:
        x = layer(x, next(keys))
      x = attention(x, codes, next(keys))
    return self.logits(x)

  def init_cache(self, num: int, dtype: jnp.dtype) -> Cache:
    _, columns, channels = self.event
    codes = empty_ring(self.first.offsets, columns, num, channels * num_codes(self.levels), dtype)
    rings = tuple(tuple(empty_ring(layer.offsets, columns, num, self.width, dtype) for layer in layers)
                  for layers in self.layers)
    return Cache(codes, rings, tuple(attention.empty(num, dtype) for attention in self.attentions))

  def step(self, previous: Int[Array, " batch"], cache: Cache,
           index: Int[Array, ""]) -> tuple[Float[Array, "batch levels"], Cache]:
    """Logits of the value at `index`; `previous` is the value before it.

    Each channel of a pixel takes a step through all layers. Those that are not known yet are masked, and what they
    would have changed is written again with the next.
    """
    _, columns, channels = self.event
    pixel, rings, seen = index // channels, [], []
    codes = put_value(cache.codes, previous, index - 1, channels, self.levels)
    x = self.first.step(codes, pixel, columns) + (self.place.at(pixel) if self.located else 0.0)
    before = jax.lax.dynamic_index_in_dim(codes, (pixel - 1) % codes.shape[0], axis=0, keepdims=False)
    before = jnp.where(index % channels == 0, before, 0.0)
    for layers, attention, old_rings, old in zip(self.layers, self.attentions, cache.rings, cache.seen, strict=True):
      new_rings = []
      for layer, ring in zip(layers, old_rings, strict=True):
        x, ring = layer.step(x, ring, pixel, columns)
        new_rings.append(ring)
      x, new = attention.step(x, before, old, pixel)
      rings.append(tuple(new_rings))
      seen.append(new)
    logits = jax.lax.dynamic_index_in_dim(self.logits(x), index % channels, axis=1, keepdims=False)
    return logits, Cache(codes, tuple(rings), tuple(seen))
