"""Penalties of the critic's gradient by its inputs; norms are over all axes of an example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# Examples [batch, ...] -> scores [batch], of each example by itself.
Critic = Callable[[Float[Array, "batch *event"]], Float[Array, " batch"]]


def squared_gradient_norms(critic: Critic, x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """Return the squared norm of each score's gradient by its example."""
  gradient = jax.grad(lambda x: jnp.sum(critic(x)))(x)
  return jnp.sum(jnp.square(gradient.reshape(x.shape[0], -1)), axis=1)


def gradient_penalty(critic: Critic, real: Float[Array, "batch *event"], fake: Float[Array, "batch *event"],
                     key: Key[Array, ""]) -> Float[Array, " batch"]:
  """Return (|gradient| - 1)^2 at a random point between each real and each made example.

  Every pair has one weight, uniform in [0, 1] (WGAN-GP, Gulrajani et al., arXiv:1704.00028, algorithm 1).
  """
  weight = jax.random.uniform(key, (real.shape[0], *(1,) * (real.ndim - 1)))
  squares = squared_gradient_norms(critic, weight * real + (1.0 - weight) * fake)
  # The root has no derivative at 0, where a critic may begin.
  return jnp.square(jnp.sqrt(jnp.maximum(squares, 1e-12)) - 1.0)


def r1(critic: Critic, real: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """Return half the squared gradient at real examples (Mescheder, Geiger and Nowozin, arXiv:1801.04406, equation 9)."""
  return 0.5 * squared_gradient_norms(critic, real)
