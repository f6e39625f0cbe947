"""PixelSNAIL: causal convolutions for what is near, self-attention for the rest (Chen et al., arXiv:1712.09763).

Each block is a few gated residual convolutions and then an attention to all pixels before. So there is no blind spot,
and what lies far away is one step away.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from gdm.autoregressive.images.gated_pixelcnn import gate
from gdm.autoregressive.images.image_model import ImageModel
from gdm.autoregressive.images.image_network import FramedNetwork
from gdm.autoregressive.images.masked_convolution import (
  HERE,
  MaskedConvolution,
  Offsets,
  above_and_left,
  empty_ring,
  put,
)
from gdm.autoregressive.images.pixel_codes import PixelBias
from gdm.dataspec import DataSpec
from gdm.networks.dropout import dropout
from gdm.stages import end_of_stage


class PixelKeyValue(NamedTuple):
  """Keys and values of all pixels, in raster order; those of later ones are never used."""

  key: Float[Array, "batch heads pixels size"]
  value: Float[Array, "batch heads pixels size"]


class PixelSNAILCache(NamedTuple):
  """The state of `PixelSNAIL.advance`.

  Attributes:
    codes: ring of the image's codes.
    rings: of each block, a ring of the inputs of each of its convolutions.
    attended: of each block, the keys and values of its attention.
  """

  codes: Float[Array, "slots batch inputs"]
  rings: tuple[tuple[Float[Array, "_ batch _"], ...], ...]
  attended: tuple[PixelKeyValue, ...]


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
    return end_of_stage(x + self.added(self.convolution(jax.nn.elu(x)), key))

  def step(self, x: Float[Array, "batch width"], ring: Float[Array, "slots batch width"], pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch width"], Float[Array, "slots batch width"]]:
    """Return the same at one pixel, and the ring of its convolution."""
    ring = put(ring, jax.nn.elu(x), pixel)
    return x + self.added(self.convolution.step(ring, pixel, columns), None), ring


class CausalPixelAttention(nn.Module):
  """x + attention of each pixel to the pixels before it (section 2.1), which is zero for the first one.

  Keys and values depend on all of their pixel's values, unlike x. A query depends on the channels before the one it
  serves, so heads come in as many groups as the image has channels.

  Attributes:
    event: (height, columns, channels) of the image.
    width: units of x.
    heads: number of heads.
    head_size: units of a head.
    num_layers: how many layers add up in the whole network.
    dropout: rate on the attention's output.
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
    attended = attention_weights(query, keys, before) @ values
    attended = attended.swapaxes(1, 2).reshape(*x.shape[:-1], -1)
    return end_of_stage(x + self.out(dropout(key, attended, self.dropout)))

  def step(self, x: Float[Array, "batch width"], before: Float[Array, "batch inputs"], attended: PixelKeyValue,
           pixel: Int[Array, ""]) -> tuple[Float[Array, "batch width"], PixelKeyValue]:
    """Return the same at one pixel, and the keys and values with this pixel's.

    The part of its codes is added with the next pixel: `before` are the codes of the pixel before, zeros where they
    were added already.
    """
    where = x + self.place.at(pixel)
    attended = PixelKeyValue(*(_add_at(old, pixel - 1, self._by_heads(layer(before)))
                               for old, layer in zip(attended, (self.key_of_code, self.value_of_code), strict=True)))
    attended = PixelKeyValue(*(
        jax.lax.dynamic_update_slice_in_dim(old, self._by_heads(new).astype(old.dtype), pixel, axis=2)
        for old, new in zip(attended, (self.key(where), self.value(x)), strict=True)))
    is_before = jnp.arange(attended.key.shape[2]) < pixel
    weights = attention_weights(self._by_heads(self.query(where)), attended.key, is_before)
    return x + self.out((weights @ attended.value).reshape(len(x), -1)), attended

  def empty(self, num: int, dtype: jnp.dtype) -> PixelKeyValue:
    """Return keys and values of all pixels, zeros."""
    shape = (num, self.heads, self.event[0] * self.event[1], self.head_size)
    return PixelKeyValue(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

  def _by_heads(self, x: Float[Array, "batch units"]) -> Float[Array, "batch heads 1 size"]:
    return x.reshape(len(x), self.heads, 1, self.head_size)


def _add_at(x: Float[Array, "batch heads pixels size"], pixel: Int[Array, ""],
            added: Float[Array, "batch heads 1 size"]) -> Float[Array, "batch heads pixels size"]:
  """Return x with something added at one pixel; nothing comes before the first, so at -1 what is added is zero."""
  old = jax.lax.dynamic_slice_in_dim(x, pixel, 1, axis=2)
  return jax.lax.dynamic_update_slice_in_dim(x, old + added.astype(x.dtype), pixel, axis=2)


def attention_weights(query: Float[Array, "batch heads queries size"], key: Float[Array, "batch heads keys size"],
                      before: Bool[Array, "*queries keys"]) -> Float[Array, "batch heads queries keys"]:
  """Return the softmax over the keys before a query (Vaswani et al., arXiv:1706.03762, equation 1); zeros for none."""
  products = (query * query.shape[-1] ** -0.5) @ key.swapaxes(2, 3)
  masked = jnp.where(before, products, -jnp.inf)
  largest = jax.lax.stop_gradient(jnp.max(masked, axis=-1, keepdims=True))
  weights = jnp.exp(masked - jnp.where(jnp.isfinite(largest), largest, 0.0))
  total = jnp.sum(weights, axis=-1, keepdims=True)
  return weights / jnp.where(total > 0.0, total, 1.0)


class PixelSNAIL(FramedNetwork):
  """PixelSNAIL's network, in which each pixel attends to all before it.

  Attributes:
    width: units.
    num_blocks: blocks, each of which ends with an attention.
    num_layers: gated convolutions of a block.
    kernel_size: kernel size, odd, of the convolutions after the first, which have mask B; the first has mask A.
    heads: heads of each attention.
    head_size: units of a head.
    head_width: units of the hidden layer before the outputs.
  """

  width: int = 72  # a multiple of one channel and of three
  num_blocks: int = 3
  num_layers: int = 3
  kernel_size: int = 3
  heads: int = 3
  head_size: int = 16
  head_width: int = 144

  def __post_init__(self) -> None:
    self.check(("num_blocks", "num_layers", "head_size"), ("width", "heads", "head_width"),
               ("first_size", "kernel_size"))
    super().__post_init__()

  def setup(self) -> None:
    channels, adding = self.event[-1], self.num_blocks * (self.num_layers + 1)
    self.set_up_frame(self.width, self.head_width)
    self.layers = [[GatedConvolution(self.width, self.kernel_size, channels, adding, self.dropout)
                    for _ in range(self.num_layers)] for _ in range(self.num_blocks)]
    self.attentions = [CausalPixelAttention(self.event, self.width, self.heads, self.head_size, adding, self.dropout)
                       for _ in range(self.num_blocks)]

  def outputs_from_codes(self, codes, key=None, y=None):
    codes, x, keys = self.begin(codes, key, self.num_blocks * (self.num_layers + 1))
    keys = iter(keys)
    for layers, attention in zip(self.layers, self.attentions, strict=True):
      for layer in layers:
        x = layer(x, next(keys))
      x = attention(x, codes, next(keys))
    return self.read_out(x, jax.nn.elu)

  def init_cache(self, num, dtype, y=None) -> PixelSNAILCache:
    rings = tuple(tuple(empty_ring(layer.offsets, self.event[1], num, self.width, dtype) for layer in layers)
                  for layers in self.layers)
    return PixelSNAILCache(self.empty_codes(num, dtype), rings,
                           tuple(attention.empty(num, dtype) for attention in self.attentions))

  @nn.nowrap
  def advance(self, variables, cache, previous, index):
    return self.apply(variables, cache, previous, index, method="step")

  def step(self, cache: PixelSNAILCache, previous: Int[Array, " batch"],
           index: Int[Array, ""]) -> tuple[Float[Array, "batch outputs"], PixelSNAILCache]:
    """Return the outputs for the pixel of the value at `index`, and the next cache; `previous` is the value before."""
    _, columns, channels = self.event
    pixel, rings, attended = index // channels, [], []
    codes = self.put_previous(cache.codes, previous, index)
    x = self.begin_step(codes, pixel)
    # Attentions take in the codes of the pixel before once all of its channels are known.
    before = jax.lax.dynamic_index_in_dim(codes, (pixel - 1) % codes.shape[0], axis=0, keepdims=False)
    before = jnp.where(index % channels == 0, before, 0.0)
    for layers, attention, old_rings, old in zip(self.layers, self.attentions, cache.rings, cache.attended,
                                                 strict=True):
      new_rings = []
      for layer, ring in zip(layers, old_rings, strict=True):
        x, ring = layer.step(x, ring, pixel, columns)
        new_rings.append(ring)
      x, new = attention.step(x, before, old, pixel)
      rings.append(tuple(new_rings))
      attended.append(new)
    return self.read_out(x, jax.nn.elu), PixelSNAILCache(codes, tuple(rings), tuple(attended))


def pixelsnail(spec: DataSpec, network: PixelSNAIL = PixelSNAIL()) -> ImageModel:
  """Return a PixelSNAIL with a categorical distribution of each value.

  Args:
    spec: the data.
    network: its layers and their sizes.
  """
  return ImageModel(spec, network)
