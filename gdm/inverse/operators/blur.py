"""Blurs: each axis of an image is multiplied by a matrix."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.inverse.operators.operator import Leaf, registered, require_images


@registered("down", "across")
@dataclasses.dataclass(frozen=True)
class Blur:
  """A separable blur: columns are multiplied by one matrix, rows by another.

  Attributes:
    down: matrix of the columns; its rows sum to one.
    across: matrix of the rows of the image.
    event: shape of an example, (height, width, channels).
  """

  down: Leaf  # Float[Array, "height height"]
  across: Leaf  # Float[Array, "width width"]
  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int, ...]:
    return self.event

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    return jnp.einsum("ih,bhwc,jw->bijc", self.down, x, self.across)

  def adjoint(self, y: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    return jnp.einsum("ih,bijc,jw->bhwc", self.down, y, self.across)


def blur(event: tuple[int, ...], deviation: float) -> Blur:
  """Return a Gaussian blur whose deviation is in pixels; beyond its edge an image goes on as its mirror image.

  Raise SpecError where the event is no image, ConfigError unless the deviation is positive.

  Example:
    y = blur((8, 8, 1), deviation=1.0).forward(jnp.ones((16, 8, 8, 1)))  # [16, 8, 8, 1]
  """
  require_images(event, "blur")
  checks.positive("deviation of blur", deviation, "(in pixels)")
  return Blur(_matrix(event[0], deviation), _matrix(event[1], deviation), tuple(event))


def _matrix(size: int, deviation: float) -> Float[Array, "size size"]:
  """Return the weights of each pixel in each blurred one."""
  reach = int(np.ceil(4.0 * deviation))
  weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
  matrix = np.zeros((size, size))
  for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
    place = (np.arange(size) + offset) % (2 * size)  # the mirrored axis has period 2 size
    np.add.at(matrix, (np.arange(size), np.where(place < size, place, 2 * size - 1 - place)), weight)
  return jnp.asarray(matrix, jnp.float32)
