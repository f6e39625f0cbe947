"""Uniform numbers that are spread more evenly than independent ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def low_discrepancy_ranks(key: Key[Array, ""], num: int) -> Float[Array, " num"]:
  """Draw `num` numbers of [0, 1): one in each of `num` equal parts, by one offset for all (arXiv:2107.00630, appendix
  I.1); in random order.

  The order is random lest examples of a sorted batch always get the same numbers.
  """
  offset_key, order_key = jax.random.split(key)
  ranks = (jax.random.uniform(offset_key) + jnp.arange(num)) / num
  return jax.random.permutation(order_key, ranks)
