"""Mean and scale of data, by one rule for what counts as constant."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

# Largest deviation, as a share of the largest magnitude, that the rounding of equal numbers explains: a few units in
# the last place of float32.
ROUNDING = 4.0 * float(jnp.finfo(jnp.float32).eps)


# Variance that a dimension is taken to have when all its values are equal, in the data's squared units.
CONSTANT_VARIANCE = 1e-6


class Moments(NamedTuple):
  """Location and scale of data.

  Attributes:
    mean: means over the given axes.
    scale: standard deviations; 1 where the data is constant up to rounding, so that its rounding error is no scale.
    is_constant: where that is so.
  """

  mean: Float[Array, "*rest"]
  scale: Float[Array, "*rest"]
  is_constant: Array


def moments(x: Num[Array, "*shape"], axes: int | Sequence[int] = 0, rounding: float = ROUNDING) -> Moments:
  """Return the moments of `x` over `axes`, accurate where the spread is small beside the mean; works under jit.

  Equal values, or values that differ by their rounding alone, are constant whatever their unit: the rule is relative.

  Args:
    x: the data.
    axes: what to take means over.
    rounding: largest deviation that counts as rounding, as a share of the largest magnitude; activations, which have
      been rounded several times, need more than data.

  Example:

    mean, scale, _ = moments(x)  # x [batch, dims]
    standardized = (x - mean) / scale
  """
  x = jnp.asarray(x)
  x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
  axes = (axes,) if isinstance(axes, int) else tuple(axes)
  # The mean rounds like x itself. Differences from it are exact enough to find what it is off by, and the spread.
  shift = jnp.mean(x, axis=axes, keepdims=True)
  centred = x - shift
  correction = jnp.mean(centred, axis=axes, keepdims=True)
  std = jnp.sqrt(jnp.mean(jnp.square(centred - correction), axis=axes))
  is_constant = std <= rounding * jnp.max(jnp.abs(x), axis=axes)
  return Moments(jnp.squeeze(shift + correction, axes), jnp.where(is_constant, 1.0, std), is_constant)


def variance_of_fit(mean: Float[np.ndarray, " dims"], variance: Float[np.ndarray, " dims"],
                    constant: float = CONSTANT_VARIANCE) -> Float[np.ndarray, " dims"]:
  """Return the variances that densities are fitted with: the data's, and `constant` where its values are equal up to
  their rounding as float32, whatever their unit.

  A floor in the data's own unit would hide the spread of data in a large one, as of micrometres in metres.

  Args:
    mean: of each dimension, in float64.
    variance: of each dimension, in float64.
    constant: variance in place of none.

  Example:
    scale = np.sqrt(variance_of_fit(x.mean(axis=0), x.var(axis=0)))
  """
  deviation = np.sqrt(np.maximum(variance, 0.0))
  return np.where(deviation <= ROUNDING * (np.abs(mean) + deviation), constant, variance)
