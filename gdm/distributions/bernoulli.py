"""Bernoulli distributions by their logits, in nats."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num


def log_prob(logits: Float[Array, "*shape"], x: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Log-probability of x in {0, 1} under logits; elementwise, stable in both tails."""
  return -jax.nn.softplus(jnp.where(x > 0, -logits, logits))


def sample(key: Key[Array, ""], logits: Float[Array, "*shape"], temperature: float = 1.0) -> Int[Array, "*shape"]:
  """Draw x in {0, 1}; `temperature` divides the logits, and 0 is the mode."""
  return jax.random.bernoulli(key, jax.nn.sigmoid(logits / jnp.maximum(temperature, 1e-30))).astype(jnp.int32)
