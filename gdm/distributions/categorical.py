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
  """Return logits divided by a temperature; at 0 the largest stay alone, where a division would make all alike."""
  largest = jnp.where(logits == jnp.max(logits, axis=-1, keepdims=True), 0.0, -jnp.inf)
  return jnp.where(temperature > 0, logits / jnp.where(temperature > 0, temperature, 1.0), largest)
