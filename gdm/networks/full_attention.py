"""Self-attention in which every position sees every other, whatever their order: over pixels or patches of images."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from gdm.networks.linear import Linear


class FullAttention(nn.Module):
  """Self-attention with several heads and no mask (Vaswani et al., arXiv:1706.03762, section 3.2).

  Attributes:
    num_heads: they divide the width.
    out_stddev: initial standard deviation of the output's weights; None for one over the root of the width.
  """

  num_heads: int = 1
  out_stddev: float | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "batch positions width"]) -> Float[Array, "batch positions width"]:
    batch, positions, width = x.shape
    stddev = width**-0.5
    # Apart, not as one product that is split: the split copies.
    query, key, value = (
        Linear(width, stddev, use_bias=True, name=name)(x).reshape(batch, positions, self.num_heads, -1)
        for name in ("query", "key", "value"))
    attended = full_attention(query, key, value).reshape(x.shape)
    return Linear(width, stddev if self.out_stddev is None else self.out_stddev, use_bias=True, name="out")(attended)


def full_attention(query: Float[Array, "batch positions heads size"], key: Float[Array, "batch positions heads size"],
                   value: Float[Array, "batch positions heads size"]) -> Float[Array, "batch positions heads size"]:
  """The mean of the values under the softmax of the scaled products of a position's query with all keys."""
  if jax.default_backend() != "cpu":
    return jax.nn.dot_product_attention(query, key, value)
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))  # faster there: see attention_by_heads
  scores = (query * query.shape[-1] ** -0.5) @ key.swapaxes(2, 3)
  return (jax.nn.softmax(scores) @ value).swapaxes(1, 2)
