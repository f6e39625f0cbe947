"""Dropout as a pure function of its key (Srivastava et al., 2014), and the noise it multiplies by."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def dropout_scale(key: Key[Array, ""] | None, shape: tuple[int, ...], rate: float) -> Float[Array, "*shape"]:
  """Factors 0 with probability `rate`, else 1 / (1 - rate); the scalar 1 where key is None or rate is 0."""
  if key is None or rate == 0.0:
    return jnp.ones(())
  return jax.random.bernoulli(key, 1.0 - rate, shape) / (1.0 - rate)


def dropout(key: Key[Array, ""] | None, x: Float[Array, "*shape"], rate: float) -> Float[Array, "*shape"]:
  """Zeroes each entry with probability `rate` and scales up the rest; the identity where key is None or rate is 0."""
  if key is None or rate == 0.0:
    return x
  return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)
