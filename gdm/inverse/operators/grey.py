"""Grey values of images in colour."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.errors import SpecError
from gdm.inverse.operators.operator import registered, require_images


@registered()
@dataclasses.dataclass(frozen=True)
class Grey:
  """The mean of the channels of each pixel.

  Attributes:
    event: shape of an example, (height, width, channels).
  """

  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int, int, int]:
    return (self.event[0], self.event[1], 1)

  @property
  def gain(self) -> float:
    return 1.0 / self.event[-1]

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch height width 1"]:
    return jnp.mean(x, axis=-1, keepdims=True)

  def adjoint(self, y: Float[Array, "batch height width 1"]) -> Float[Array, "batch *event"]:
    return jnp.repeat(y, self.event[-1], axis=-1) / self.event[-1]


def grey(event: tuple[int, ...]) -> Grey:
  """Return the grey values of an image. Raise SpecError where it has no colours.

  Example:
    y = grey((8, 8, 3)).forward(jnp.ones((16, 8, 8, 3)))  # [16, 8, 8, 1]
  """
  require_images(event, "grey")
  if event[-1] < 2:
    raise SpecError(f"grey measures images in colour, but the event {event} has one channel; choose another operator.")
  return Grey(tuple(event))
