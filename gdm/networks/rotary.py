"""Rotary positions: products of queries and keys that depend on their distance."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotary(x: Float[Array, "batch steps heads size"], positions: Int[Array, " steps"],
           base: float = 10_000.0) -> Float[Array, "batch steps heads size"]:
  """Rotate pairs of x, (i, i + size / 2), by position * base^(-2 i / size).

  Su et al., arXiv:2104.09864, section 3.2.2, with the pairs split in halves. `size` must be even.
  """
  half = x.shape[-1] // 2
  angles = positions[:, None].astype(x.dtype) * base ** (-jnp.arange(half, dtype=x.dtype) / half)  # [steps, half]
  cos, sin = jnp.cos(angles)[:, None, :], jnp.sin(angles)[:, None, :]
  first, second = x[..., :half], x[..., half:]
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
