"""Radon transform: sums of an image along parallel rays at several angles, as tomography measures it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm import checks
from gdm.inverse.operators.operator import Leaf, registered, require_images


@registered("bins", "share", static=("num_bins", "event"))
@dataclasses.dataclass(frozen=True)
class Radon:
  """Sums along parallel rays, divided by the larger side of the image.

  Each pixel's value is divided between the two detectors next to its centre's projection.

  Attributes:
    bins: the lower of these two for each angle and pixel.
    share: the part that goes to the upper one, in [0, 1).
    num_bins: detectors in a row, a pixel apart.
    event: shape of an example, (height, width, channels).
  """

  bins: Leaf  # Int[Array, "angles pixels"]
  share: Leaf  # Float[Array, "angles pixels"]
  num_bins: int
  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int, int, int]:
    return (self.bins.shape[0], self.num_bins, self.event[-1])

  @property
  def _angles(self) -> Int[Array, "angles 1"]:
    return jnp.arange(self.bins.shape[0])[:, None]

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *measured"]:
    pixels = x.reshape(len(x), 1, -1, self.event[-1]) / max(self.event[:2])
    sums = jnp.zeros((len(x), *self.measured), x.dtype)
    sums = sums.at[:, self._angles, self.bins].add(pixels * (1.0 - self.share[..., None]))
    return sums.at[:, self._angles, self.bins + 1].add(pixels * self.share[..., None])

  def adjoint(self, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *event"]:
    lower = y[:, self._angles, self.bins] * (1.0 - self.share[..., None])
    upper = y[:, self._angles, self.bins + 1] * self.share[..., None]
    return jnp.sum(lower + upper, axis=1).reshape(len(y), *self.event) / max(self.event[:2])


def radon(event: tuple[int, ...], num_angles: int) -> Radon:
  """Return the sums along rays at `num_angles` angles, evenly spaced over half a turn.

  Raise SpecError where the event is no image, ConfigError where there is no angle.

  Example:
    operator = radon((8, 8, 1), num_angles=6)
    y = operator.forward(jnp.ones((16, 8, 8, 1)))  # [16, 6, 11, 1]: a row for each angle
  """
  require_images(event, "radon")
  checks.at_least("number of angles of radon", num_angles, 1)
  height, width, _ = event
  row, column = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
  angle = np.pi * np.arange(num_angles)[:, None] / num_angles
  reach = np.hypot(height - 1, width - 1) / 2
  place = np.cos(angle) * column.ravel() + np.sin(angle) * row.ravel() + reach + 1e-6
  bins = np.floor(place).astype(np.int32)
  return Radon(jnp.asarray(bins), jnp.asarray(place - bins, jnp.float32), int(np.floor(2 * reach)) + 2, tuple(event))
