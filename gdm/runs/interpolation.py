"""Ways between two latents."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def great_circle(a: Float[Array, "batch *latent"], b: Float[Array, "batch *latent"],
                 share: int | float) -> Float[Array, "batch *latent"]:
  """Points between a and b: directions along the great circle, lengths in proportion (White, arXiv:1609.04468).

  On a straight line between two draws of a normal in many dimensions the middle is shorter than any draw.
  """
  flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
  length_a, length_b = (jnp.linalg.norm(flat, axis=1, keepdims=True) for flat in (flat_a, flat_b))
  tiny = jnp.finfo(flat_a.dtype).tiny
  unit_a, unit_b = flat_a / jnp.maximum(length_a, tiny), flat_b / jnp.maximum(length_b, tiny)
  angle = jnp.arccos(jnp.clip(jnp.sum(unit_a * unit_b, axis=1, keepdims=True), -1.0, 1.0))
  alike = jnp.sin(angle) < 1e-4
  safe = jnp.where(alike, 1.0, angle)
  around = (jnp.sin((1.0 - share) * safe) * unit_a + jnp.sin(share * safe) * unit_b) / jnp.sin(safe)
  length = (1.0 - share) * length_a + share * length_b
  return jnp.where(alike, (1.0 - share) * flat_a + share * flat_b, length * around).reshape(a.shape)
