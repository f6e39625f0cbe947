"""Attention without a causal mask: of every position to every other one, and of positions to words."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdm import platforms
from gdm.networks.linear import Linear
from gdm.networks.rotary import rotary


class FullAttention(nn.Module):
  """Self-attention with several heads and no mask (Vaswani et al., arXiv:1706.03762, section 3.2).

  Attributes:
    num_heads: they divide the width.
    out_stddev: initial standard deviation of the output's weights; None for one over the root of the width.
    rotate: whether queries and keys are rotated by their position, so that their products depend on the distance.
  """

  num_heads: int = 1
  out_stddev: float | None = None
  rotate: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "batch positions width"]) -> Float[Array, "batch positions width"]:
    batch, positions, width = x.shape
    stddev = width**-0.5
    # Apart, not as one product that is split: the split copies.
    query, key, value = (
        Linear(width, stddev, use_bias=True, name=name)(x).reshape(batch, positions, self.num_heads, -1)
        for name in ("query", "key", "value"))
    if self.rotate:
      query, key = (rotary(each, jnp.arange(positions)) for each in (query, key))
    attended = full_attention(query, key, value).reshape(x.shape)
    return Linear(width, stddev if self.out_stddev is None else self.out_stddev, use_bias=True, name="out")(attended)


class CrossAttention(nn.Module):
  """Attention of positions to words, with several heads (Vaswani et al., arXiv:1706.03762, section 3.2.3).

  Beside the words there is one vector of its own, whose value starts at zero: what is looked at where there are none.

  Attributes:
    num_heads: they divide the width of the positions.
    out_stddev: initial standard deviation of the output's weights.
  """

  num_heads: int = 1
  out_stddev: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "batch positions width"], words: Float[Array, "batch words size"],
               is_word: Bool[Array, "batch words"]) -> Float[Array, "batch positions width"]:
    width, size = x.shape[-1], words.shape[-1]
    nothing = self.param("nothing", jax.nn.initializers.zeros, (size,))
    words = jnp.concatenate([jnp.broadcast_to(nothing, (len(words), 1, size)), words], axis=1)
    seen = jnp.pad(is_word, ((0, 0), (1, 0)), constant_values=True)

    def heads(name: str, values: Float[Array, "batch _ _"]) -> Float[Array, "batch heads _ size"]:
      made = Linear(width, values.shape[-1] ** -0.5, name=name)(values)
      return made.reshape(*values.shape[:2], self.num_heads, -1).swapaxes(1, 2)

    query, key, value = heads("query", x), heads("key", words), heads("value", words)
    scores = (query * query.shape[-1] ** -0.5) @ key.swapaxes(2, 3)
    attended = jax.nn.softmax(jnp.where(seen[:, None, None], scores, -jnp.inf)) @ value
    return Linear(width, self.out_stddev, use_bias=True, name="out")(attended.swapaxes(1, 2).reshape(x.shape))


def full_attention(query: Float[Array, "batch positions heads size"], key: Float[Array, "batch positions heads size"],
                   value: Float[Array, "batch positions heads size"]) -> Float[Array, "batch positions heads size"]:
  """Return the mean of the values under the softmax of the scaled products of a position's query with all keys."""
  if platforms.backend() != "cpu":
    return jax.nn.dot_product_attention(query, key, value)
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))  # heads in front of positions: faster there
  scores = (query * query.shape[-1] ** -0.5) @ key.swapaxes(2, 3)
  return (jax.nn.softmax(scores) @ value).swapaxes(1, 2)
