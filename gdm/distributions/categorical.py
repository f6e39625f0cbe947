"""Categorical distributions by their logits, in nats."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num


def log_prob(logits: Float[Array, "*shape levels"], x: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Log-probability of x in [0, levels) under unnormalized logits."""
  log_probs = jax.nn.log_softmax(logits, axis=-1)
  return jnp.take_along_axis(log_probs, x.astype(jnp.int32)[..., None], axis=-1)[..., 0]


def sample(key: Key[Array, ""], logits: Float[Array, "*shape levels"],
           temperature: float = 1.0) -> Int[Array, "*shape"]:
  """Draw x in [0, levels); `temperature` divides the logits, and 0 is the mode."""
  return jax.random.categorical(key, tempered(logits, temperature), axis=-1).astype(jnp.int32)


def tempered(logits: Float[Array, "*shape levels"], temperature: float) -> Float[Array, "*shape levels"]:
  """Return logits divided by a temperature, the largest one shifted to 0; at 0 the largest ones stay alone.

  After the shift only levels that are never drawn can become infinite, and equal levels stay equal at any temperature.
  """
  largest = jnp.max(logits, axis=-1, keepdims=True)
  # Beyond 1e-30 and 1e30 nothing changes but that a temperature, or its reciprocal, becomes 0 in float32.
  divided = (logits - jnp.where(jnp.isfinite(largest), largest, 0.0)) / jnp.clip(temperature, 1e-30, 1e30)
  return jnp.where(jnp.equal(temperature, 1.0), logits, divided)
