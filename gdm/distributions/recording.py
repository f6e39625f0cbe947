"""The step at which real data was recorded: below it, a density describes the record and not what was measured."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def recording_step(x: Float[Array, "batch dims"], tolerance: float = 0.1) -> Float[Array, " dims"]:
  """Return the commonest gap between neighbouring distinct values of each dimension, equal within `tolerance`.

  Data that is recorded to a decimal shows that decimal; data that is not, about its mean gap. 1 where all values are
  equal.
  """
  def of_column(column):
    column = jnp.sort(column)
    gaps = jnp.diff(column, append=column[-1:])  # the last of 0, so that one example is enough
    real = gaps > 0
    log_gaps = jnp.log(jnp.where(real, gaps, jnp.inf))
    ranked = jnp.sort(log_gaps)
    num_alike = (jnp.searchsorted(ranked, log_gaps + tolerance, side="right")
                 - jnp.searchsorted(ranked, log_gaps - tolerance, side="left"))
    commonest = log_gaps[jnp.argmax(jnp.where(real, num_alike, 0))]
    near = real & (jnp.abs(log_gaps - commonest) <= tolerance)
    return jnp.where(jnp.any(near), jnp.sum(jnp.where(near, gaps, 0.0)) / jnp.maximum(jnp.sum(near), 1), 1.0)

  return jax.lax.map(of_column, x.T)
