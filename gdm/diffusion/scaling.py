"""Data as the real numbers that noise is added to, and back."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.distributions.moments import moments


@dataclasses.dataclass(frozen=True)
class Scaling:
  """Data as the real numbers that noise is added to: values = (x - centre) / scale.

  Integers in [0, levels) become evenly spaced values from -1 to 1. Real numbers are standardized by the examples that
  initialization takes: a vector's dimensions each, all entries of other events together.

  Attributes:
    centre, scale: arrays that broadcast over an event, in the data's units.
  """

  centre: Array
  scale: Array

  def values(self, x: Array) -> Float[Array, "batch *event"]:
    return (jnp.asarray(x, self.centre.dtype) - self.centre) / self.scale

  def data(self, values: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """Return values in the data's units; integers are not rounded yet."""
    return self.centre + self.scale * values


def statistics(x: Float[Array | np.ndarray, "batch *event"]) -> dict[str, Array]:
  """Mean and deviation of real numbers; what never varies keeps its scale."""
  x = jnp.asarray(x)
  centre, scale = moments(x, (0,) if x.ndim == 2 else tuple(range(x.ndim)))[:2]
  return {"centre": centre, "scale": scale}
