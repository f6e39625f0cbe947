"""Data as the real numbers that noise is added to, and back.

Integers in [0, levels) become evenly spaced values from -1 to 1. Real numbers are standardized by the examples that
initialization sees: a vector's dimensions each, all entries of other events together.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.dataspec import DataSpec
from gdm.distributions.moments import moments


class Scaling(NamedTuple):
  """values = (x - centre) / scale; both are arrays that an event takes."""

  centre: Array
  scale: Array

  def values(self, x: Array) -> Float[Array, "batch *event"]:
    return (jnp.asarray(x, self.centre.dtype) - self.centre) / self.scale

  def data(self, values: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """In the data's units; integers are not rounded yet."""
    return self.centre + self.scale * values

  def log_det(self, spec: DataSpec) -> Float[Array, ""]:
    """log |d values / d x| of an example in nats."""
    return -jnp.sum(jnp.broadcast_to(jnp.log(self.scale), spec.event))


def of_levels(levels: int) -> Scaling:
  """Integers to [-1, 1]."""
  half = jnp.asarray(0.5 * (levels - 1), jnp.float32)
  return Scaling(half, half)


def of_examples(x: Float[Array | np.ndarray, "batch *event"]) -> Scaling:
  """Real numbers to mean zero and variance one; what never varies keeps its scale."""
  x = jnp.asarray(x)
  return Scaling(*moments(x, (0,) if x.ndim == 2 else tuple(range(x.ndim)))[:2])
