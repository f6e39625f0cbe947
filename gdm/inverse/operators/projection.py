"""Projections: any matrix applied to the flattened example; random ones as in compressed sensing."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.errors import SpecError
from gdm.inverse.operators.operator import Leaf, registered


@registered("matrix")
@dataclasses.dataclass(frozen=True)
class Projection:
  """A matrix applied to the flattened example.

  Attributes:
    matrix: the matrix.
    event: shape of an example.
  """

  matrix: Leaf  # Float[Array, "rows dims"]
  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int]:
    return (self.matrix.shape[0],)

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch rows"]:
    return x.reshape(len(x), -1) @ self.matrix.T

  def adjoint(self, y: Float[Array, "batch rows"]) -> Float[Array, "batch *event"]:
    return (y @ self.matrix).reshape(len(y), *self.event)


def projection(event: tuple[int, ...], matrix: Float[Array | np.ndarray, "rows dims"]) -> Projection:
  """Return the measurement by a matrix. Raise SpecError unless it has a column for each entry of the event.

  Example:
    y = projection((3,), np.array([[1.0, 1.0, 0.0]])).forward(jnp.ones((16, 3)))  # [16, 1]
  """
  if matrix.shape[1] != math.prod(event):
    raise SpecError(f"the matrix has {matrix.shape[1]} columns; it must have one for each of the {math.prod(event)} "
                    f"entries of the event {event}.")
  return Projection(jnp.asarray(matrix, jnp.float32), tuple(event))


def random_projection(event: tuple[int, ...], num: int, seed: int = 0) -> Projection:
  """Return `num` random projections: entries of the matrix are normal with variance 1 / num_dims, so that rows have
  about length one. Raise ConfigError where there is none.

  Example:
    y = random_projection((8, 8, 1), num=10).forward(jnp.ones((16, 8, 8, 1)))  # [16, 10]
  """
  checks.at_least("number of projections", num, 1)
  num_dims = math.prod(event)
  return projection(event, np.random.default_rng(seed).normal(size=(num, num_dims)) / math.sqrt(num_dims))
