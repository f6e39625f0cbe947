"""Sums over all binary states, in chunks: the exact partition function of whatever is small enough."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdm.precision import highest_precision

CHUNK_BITS = 12  # states of a chunk share one matrix product; 4096 of a few hundred units take a few MB


def binary_codes(index: Int[Array, " states"], num_bits: int) -> Float[Array, "states num_bits"]:
  """Return the bits of each index as zeros and ones, the last one fastest."""
  shifts = jnp.arange(num_bits - 1, -1, -1)
  return ((index[:, None] >> shifts) & 1).astype(jnp.result_type(float))


@highest_precision()
def log_sum_over_states(log_weight: Callable[[Float[Array, "states num_bits"]], Float[Array, " states"]],
                        num_bits: int) -> Float[Array, ""]:
  """Return log of the sum of exp(log_weight) over {0, 1}^num_bits; memory constant in their number."""
  low = min(num_bits, CHUNK_BITS)
  inner = jnp.arange(2**low)

  def chunk(total, high):
    return jnp.logaddexp(total, jax.nn.logsumexp(log_weight(binary_codes(high * 2**low + inner, num_bits)))), None

  start = jnp.full((), -jnp.inf, jnp.result_type(float))
  return jax.lax.scan(chunk, start, jnp.arange(2 ** (num_bits - low)))[0]
