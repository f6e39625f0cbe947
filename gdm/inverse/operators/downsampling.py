"""Downsampling: means of blocks."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.inverse.operators.operator import registered, require_images


@registered(static=("factor", "event"))
@dataclasses.dataclass(frozen=True)
class Downsampling:
  """Means of blocks of factor x factor pixels of an image.

  Attributes:
    factor: height and width of a block, in pixels.
    event: shape of an example, (height, width, channels).
  """

  factor: int
  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int, int, int]:
    height, width, channels = self.event
    return (height // self.factor, width // self.factor, channels)

  @property
  def gain(self) -> float:
    return 1.0 / self.factor**2

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *measured"]:
    height, width, channels = self.measured
    blocks = x.reshape(len(x), height, self.factor, width, self.factor, channels)
    return jnp.mean(blocks, axis=(2, 4))

  def adjoint(self, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *event"]:
    return jnp.repeat(jnp.repeat(y, self.factor, axis=1), self.factor, axis=2) * self.gain


def downsampling(event: tuple[int, ...], factor: int) -> Downsampling:
  """Return the means of blocks of factor x factor pixels.

  Raise SpecError where the event is no image, ConfigError unless the factor divides height and width.

  Example:
    y = downsampling((8, 8, 1), factor=2).forward(jnp.ones((16, 8, 8, 1)))  # [16, 4, 4, 1]
  """
  require_images(event, "downsample")
  for size, name in zip(event[:2], ("the height", "the width"), strict=True):
    checks.divides("factor of downsample", factor, size, name)
  return Downsampling(factor, tuple(event))
