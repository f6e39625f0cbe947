"""Causal self-attention over a whole sequence, or one position at a time with a cache."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm import platforms
from gdm.networks.dropout import dropout
from gdm.networks.linear import Linear
from gdm.networks.rotary import rotary

FUSED_DTYPE = jnp.bfloat16  # what fused kernels compute in


class KeyValue(NamedTuple):
  """Keys and values of the positions so far."""

  key: Float[Array, "batch steps heads size"]
  value: Float[Array, "batch steps heads size"]


def causal_attention(query: Float[Array, "batch steps heads size"], key: Float[Array, "batch steps heads size"],
                     value: Float[Array, "batch steps heads size"],
                     fused: bool = False) -> Float[Array, "batch steps heads size"]:
  """Return attention of each position to itself and those before; `fused` uses the device's bfloat16 kernel, if any."""
  backend = platforms.backend()
  if backend == "cpu":
    return attention_by_heads(query, key, value)
  if fused and backend == "gpu" and query.shape[-1] % 8 == 0 and query.shape[1] % 2 == 0:
    narrow = [x.astype(FUSED_DTYPE) for x in (query, key, value)]
    return jax.nn.dot_product_attention(*narrow, is_causal=True, implementation="cudnn").astype(query.dtype)
  return jax.nn.dot_product_attention(query, key, value, is_causal=True)


def attention_by_heads(query: Float[Array, "batch steps heads size"], key: Float[Array, "batch steps heads size"],
                       value: Float[Array, "batch steps heads size"]) -> Float[Array, "batch steps heads size"]:
  """Return `jax.nn.dot_product_attention`, with heads moved in front of steps once: faster on a CPU."""
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
  scores = (query * query.shape[-1] ** -0.5) @ key.swapaxes(2, 3)
  scores = jnp.where(jnp.tri(query.shape[2], dtype=bool), scores, -jnp.inf)  # a position always sees itself
  return (jax.nn.softmax(scores) @ value).swapaxes(1, 2)


class SelfAttention(nn.Module):
  """Masked self-attention with several heads (Vaswani et al., arXiv:1706.03762, section 3.2).

  Attributes:
    heads: number of heads; it divides the width.
    width: size of the activations.
    out_stddev: initial standard deviation of the output's weights.
    rotate: whether queries and keys are rotated by their position.
    dropout: rate on the output.
    fused: attend in bfloat16 by the device's fused kernel, where it has one.
  """

  heads: int
  width: int
  out_stddev: float
  rotate: bool = False
  dropout: float = 0.0
  fused: bool = False

  def setup(self) -> None:
    # Apart, not as one product that is split: the split copies.
    self.query, self.key, self.value = Linear(self.width), Linear(self.width), Linear(self.width)
    self.out = Linear(self.width, self.out_stddev)

  def project(self, x: Float[Array, "batch steps width"],
              positions: Int[Array, " steps"]) -> tuple[Float[Array, "batch steps heads size"], KeyValue]:
    """Return queries, keys and values of x."""
    shape = (*x.shape[:2], self.heads, self.width // self.heads)
    query, key, value = (layer(x).reshape(shape) for layer in (self.query, self.key, self.value))
    if self.rotate:
      query, key = rotary(query, positions), rotary(key, positions)
    return query, KeyValue(key, value)

  def __call__(self, x: Float[Array, "batch steps width"],
               rng: Key[Array, ""] | None = None) -> tuple[Float[Array, "batch steps width"], KeyValue]:
    """Return the output, and the keys and values of all positions; a key means training."""
    query, key_value = self.project(x, jnp.arange(x.shape[1]))
    attended = causal_attention(query, key_value.key, key_value.value, self.fused).reshape(x.shape)
    return dropout(rng, self.out(attended), self.dropout), key_value

  def step(self, x: Float[Array, "batch width"], cache: KeyValue,
           index: Int[Array, ""]) -> tuple[Float[Array, "batch width"], KeyValue]:
    """Return the output at position `index`, and the cache of the positions before it with its keys and values."""
    query, new = self.project(x[:, None], index[None])
    cache = KeyValue(*(jax.lax.dynamic_update_slice_in_dim(old, one, index, axis=1)
                       for old, one in zip(cache, new, strict=True)))
    mask = (jnp.arange(cache.key.shape[1]) <= index)[None, None, None, :]
    attended = jax.nn.dot_product_attention(query, cache.key, cache.value, mask=mask)
    return self.out(attended.reshape(x.shape)), cache
