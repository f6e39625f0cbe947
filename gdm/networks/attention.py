"""Self-attention of every position to every other one, without a mask."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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


def full_attention(query: Float[Array, "batch positions heads size"], key: Float[Array, "batch positions heads size"],
                   value: Float[Array, "batch positions heads size"]) -> Float[Array, "batch positions heads size"]:
  """Return the mean of the values under the softmax of the scaled products of a position's query with all keys."""
  if jax.default_backend() != "cpu":
    return jax.nn.dot_product_attention(query, key, value)
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))  # heads in front of positions: faster there
  scores = (query * query.shape[-1] ** -0.5) @ key.swapaxes(2, 3)
  return (jax.nn.softmax(scores) @ value).swapaxes(1, 2)
