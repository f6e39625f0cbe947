"""The Kullback-Leibler divergence of a density of the plane from the true one, by sums over an even grid.

For smooth densities that vanish at the grid's border the error of such a sum falls faster than any power of the spacing
(Trefethen and Weideman, The exponentially convergent trapezoidal rule, SIAM Review 2014).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from gdm.errors import NotFiniteError

LogProb = Callable[[Float[np.ndarray, "points 2"]], Float[np.ndarray | Array, " points"]]
Table = Float[np.ndarray, "rows columns"]

_CHUNK = 4096  # points per call, always as many, so that a jitted log_prob compiles once


@dataclasses.dataclass(frozen=True)
class PlaneGrid:
  """The centres of equal cells that tile a rectangle.

  Attributes:
    window: left, right, bottom and top of the rectangle.
    num: cells along each axis.
  """

  window: tuple[float, float, float, float]
  num: int = 512

  @classmethod
  def around(cls, points: Float[np.ndarray, "_ 2"], num: int = 512) -> "PlaneGrid":
    """Return a square about twice as wide as the points, so that noise and tails have room."""
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    (x, y), half = ((low + high) / 2).tolist(), max(float((high - low).max()), 1e-6)
    return cls((x - half, x + half, y - half, y + half), num)

  @property
  def spacing(self) -> tuple[float, float]:
    """Sides of a cell."""
    left, right, bottom, top = self.window
    return (right - left) / self.num, (top - bottom) / self.num

  def table(self, log_prob: LogProb) -> Table:
    """log_prob, in nats, of every point, rows upwards; it is called with points [4096, 2] as often as needed."""
    (left, _, bottom, _), (wide, high) = self.window, self.spacing
    steps = np.arange(self.num) + 0.5
    points = np.stack(np.meshgrid(left + wide * steps, bottom + high * steps), axis=-1).reshape(-1, 2)
    chunks = [points[start:start + _CHUNK] for start in range(0, len(points), _CHUNK)]
    values = [np.asarray(log_prob(np.resize(chunk, (_CHUNK, 2))), np.float64)[:len(chunk)] for chunk in chunks]
    return np.concatenate(values).reshape(self.num, self.num)

  def noised(self, log_density: Table, deviations: tuple[float, float]) -> Table:
    """Return the log density of points plus Gaussian noise of a deviation along each axis; what leaves the grid is
    lost.

    The convolution is a product of Fourier transforms, which is as good with noise of less than a cell; what lies 36
    nats below the peak is round-off.
    """
    # To twice the cells, so that what leaves on one side does not come in on the other.
    wave = np.fft.rfft2(np.exp(log_density), s=(2 * self.num, 2 * self.num))
    (wide, high), (x, y) = self.spacing, deviations
    across, up = np.fft.rfftfreq(2 * self.num, wide), np.fft.fftfreq(2 * self.num, high)[:, None]
    wave *= np.exp(-2.0 * np.pi**2 * ((x * across) ** 2 + (y * up) ** 2))
    density = np.fft.irfft2(wave, s=(2 * self.num, 2 * self.num))[:self.num, :self.num]
    with np.errstate(divide="ignore"):
      return np.log(np.maximum(density, 0.0))


class PlaneDivergence(NamedTuple):
  """A divergence in nats.

  Attributes:
    nats: KL(truth || model).
    error: what every second point of the grid says otherwise, and what the truth's mass lacks of 1; an alarm, no bound.
    true_mass: of the true density on the grid.
    mass: of the model's.
  """

  nats: float
  error: float
  true_mass: float
  mass: float


def divergence(grid: PlaneGrid, true_log_density: Table, log_density: Table) -> PlaneDivergence:
  """KL(truth || model) of two log densities on the grid; infinite where the model has no mass and the truth has.

  Raise NotFiniteError where a log density is NaN or +inf.
  """
  for name, table in (("true", true_log_density), ("model's", log_density)):
    if np.any(np.isnan(table) | (table == np.inf)):
      raise NotFiniteError(f"the {name} log density is NaN or +inf on the grid.")
  cell = grid.spacing[0] * grid.spacing[1]
  density = np.exp(true_log_density)
  here = density > 0.0
  each = np.zeros_like(density)
  each[here] = density[here] * (true_log_density - log_density)[here]
  nats, true_mass, mass = (float(part.sum()) * cell for part in (each, density, np.exp(log_density)))
  coarse = float(each[::2, ::2].sum()) * 4.0 * cell
  return PlaneDivergence(nats, abs(nats - coarse) + abs(1.0 - true_mass) if np.isfinite(nats) else 0.0, true_mass, mass)
