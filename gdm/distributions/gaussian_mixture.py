"""Mixtures of Gaussians of one real number, by log-weights, means and log-scales; log-densities in nats.

A Gaussian's scale is its standard deviation.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.distributions import categorical


def log_prob(logits: Float[Array, "*shape size"], means: Float[Array, "*shape size"],
             log_scales: Float[Array, "*shape size"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Log-density of x; finite, with a finite gradient, as far as squares of (x - mean) / scale are finite."""
  z = (x[..., None] - means) * jnp.exp(-log_scales)
  each = -0.5 * jnp.square(z) - log_scales - 0.5 * math.log(2.0 * math.pi)
  return jax.nn.logsumexp(jax.nn.log_softmax(logits, axis=-1) + each, axis=-1)


def cdf(logits: Float[Array, "*shape size"], means: Float[Array, "*shape size"],
        log_scales: Float[Array, "*shape size"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return the probability of values up to x."""
  z = (x[..., None] - means) * jnp.exp(-log_scales)
  return jnp.sum(jax.nn.softmax(logits, axis=-1) * jax.scipy.stats.norm.cdf(z), axis=-1)


def sample(key: Key[Array, ""], logits: Float[Array, "*shape size"], means: Float[Array, "*shape size"],
           log_scales: Float[Array, "*shape size"], temperature: float = 1.0) -> Float[Array, "*shape"]:
  """Draw x; `temperature` divides the logits and multiplies the scales.

  Towards 0 each draw is the mean of the component of the largest weight.
  """
  pick_key, noise_key = jax.random.split(key)
  pick = jax.random.categorical(pick_key, categorical.tempered(logits, temperature), axis=-1)[..., None]
  mean, log_scale = (jnp.take_along_axis(values, pick, axis=-1)[..., 0] for values in (means, log_scales))
  return mean + temperature * jnp.exp(log_scale) * jax.random.normal(noise_key, mean.shape, mean.dtype)
