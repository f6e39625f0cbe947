"""Densities in the plane that one can look at, each with a closed or exactly integrated log density.

All lie within about [-4.3, 4.3]^2. Those along a curve are a random point of the curve plus isotropic Gaussian noise:
on a circle the noise integrates to a Bessel function, on an open curve to a one-dimensional integral. A ring, a banana
and a spiral are of one piece, so that short chains from the data reach all there is to learn.
"""

import dataclasses
import zlib
from collections.abc import Callable

import numpy as np
import scipy.special
from jaxtyping import Float

from gdm.data.dataset import Dataset, Modes
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, nearest

SEED = 20240602  # of the data, whatever the config's seed
SIZES = {"train": 10_000, "valid": 2_000, "test": 5_000}

Points = Float[np.ndarray, "num 2"]
LogProbs = Float[np.ndarray, " num"]


@dataclasses.dataclass(frozen=True)
class PlaneDensity:
  """A known density: how to draw from it, and its logarithm in nats; its modes where it has some to count."""

  sample: Callable[[np.random.Generator, int], Points]
  log_prob: Callable[[Points], LogProbs]
  modes: Modes | None = None


def _gaussian_mixture(centers: Points, sigma: float) -> PlaneDensity:
  """Equal parts of isotropic Gaussians."""

  def sample(rng, num):
    return centers[rng.integers(len(centers), size=num)] + sigma * rng.standard_normal((num, 2))

  def log_prob(x):
    squares = ((x[:, None] - centers) ** 2).sum(-1)
    return scipy.special.logsumexp(-squares / (2 * sigma**2), axis=1) - np.log(2 * np.pi * sigma**2 * len(centers))

  return PlaneDensity(sample, log_prob, Modes(centers, np.full(2, sigma)))


def _on_circle(num: int) -> Points:
  angles = np.arange(num) * 2 * np.pi / num
  return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _eight_gaussians() -> PlaneDensity:
  return _gaussian_mixture(2.8 * _on_circle(8), sigma=0.35)


def _ring8() -> PlaneDensity:
  """Eight narrow Gaussians on the unit circle, the ring of papers on adversarial models (arXiv:1712.04086, 4.1)."""
  return _gaussian_mixture(_on_circle(8), sigma=0.01)


def _grid() -> PlaneDensity:
  """25 narrow Gaussians at {-4, -2, 0, 2, 4}^2, the grid of the same papers."""
  places = np.arange(-4.0, 5.0, 2.0)
  return _gaussian_mixture(np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2), sigma=0.05)


def _rings(radii: tuple[float, ...] = (0.75, 1.5, 2.25, 3.0), sigma: float = 0.08) -> PlaneDensity:
  """Equal parts of circles plus Gaussian noise; the radius of each follows Rice's distribution."""
  radii_array = np.array(radii)

  def sample(rng, num):
    angle = rng.uniform(0, 2 * np.pi, num)
    radius = radii_array[rng.integers(len(radii), size=num)]
    circle = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return circle + sigma * rng.standard_normal((num, 2))

  def log_prob(x):
    # integral over the angle of exp(r R cos / sigma^2) is 2 pi I0; i0e(z) = exp(-z) I0(z) keeps it from overflowing
    r = np.sqrt((x**2).sum(-1))[:, None]
    log_terms = -((r - radii_array) ** 2) / (2 * sigma**2) + np.log(scipy.special.i0e(r * radii_array / sigma**2))
    return scipy.special.logsumexp(log_terms, axis=1) - np.log(2 * np.pi * sigma**2 * len(radii))

  return PlaneDensity(sample, log_prob)


def _banana(sigma: float = 0.3) -> PlaneDensity:
  """Return a normal first dimension; the second is a parabola of it plus Gaussian noise."""

  def ridge(first):
    return 0.375 * first**2 - 3.0

  def sample(rng, num):
    first, noise = rng.standard_normal((2, num))
    return np.stack([first, ridge(first) + sigma * noise], axis=1)

  def log_prob(x):
    first, noise = x[:, 0], (x[:, 1] - ridge(x[:, 0])) / sigma
    return -0.5 * (first**2 + noise**2) - np.log(2 * np.pi * sigma)

  return PlaneDensity(sample, log_prob)


def _noisy_curve(curve: Callable[[np.ndarray], np.ndarray], power: int, sigma: float, num_panels: int,
                 signs: tuple[float, ...] = (-1.0, 1.0)) -> PlaneDensity:
  """curve(t) for t in [0, 1] with density power t^(power - 1), times one of `signs` alike, plus Gaussian noise.

  The density is the integral over t of a Gaussian, by Gauss-Legendre quadrature of ten nodes in each of equal panels; a
  panel about as long as a few sigma keeps the relative error below 1e-6 wherever a sample can come to lie.
  """
  nodes, weights = np.polynomial.legendre.leggauss(10)
  t = ((np.arange(num_panels)[:, None] + (nodes + 1) / 2) / num_panels).ravel()
  log_weights = np.log(np.tile(weights / 2, num_panels) / num_panels * power * t ** (power - 1) / len(signs))
  centers = np.concatenate([sign * curve(t) for sign in signs])
  # log w - |x - c|^2 / 2 sigma^2 is one matrix product and a term of x alone
  offsets = np.tile(log_weights, len(signs)) - (centers**2).sum(-1) / (2 * sigma**2)
  columns = np.concatenate([centers / sigma**2, offsets[:, None]], axis=1).T

  def sample(rng, num):
    points = curve(rng.uniform(size=num) ** (1 / power)) * rng.choice(signs, size=(num, 1))
    return points + sigma * rng.standard_normal((num, 2))

  def log_prob(x):
    pieces = []
    for part in np.array_split(x, max(1, len(x) // 256)):  # small enough for the cache
      terms = np.concatenate([part, np.ones((len(part), 1))], axis=1) @ columns
      largest = terms.max(axis=1, keepdims=True)
      terms -= largest
      pieces.append(largest[:, 0] + np.log(np.exp(terms, out=terms).sum(axis=1)))
    return np.concatenate(pieces) - (x**2).sum(-1) / (2 * sigma**2) - np.log(2 * np.pi * sigma**2)

  return PlaneDensity(sample, log_prob)


def _two_moons() -> PlaneDensity:
  """Two half circles facing each other, as scikit-learn's, centred and scaled by two."""
  def arc(t):
    return 2 * np.stack([np.cos(np.pi * t) - 0.5, np.sin(np.pi * t) - 0.25], axis=1)
  return _noisy_curve(arc, power=1, sigma=0.2, num_panels=12)


def _arm(t: np.ndarray) -> np.ndarray:
  """One and a half turns from the origin to a distance of pi."""
  angle = 3 * np.pi * t[:, None]
  return angle / 3 * np.concatenate([-np.cos(angle), np.sin(angle)], axis=1)


def _spirals() -> PlaneDensity:
  """Two arms of one and a half turns, denser towards the end."""
  return _noisy_curve(_arm, power=2, sigma=0.1, num_panels=64)


def _spiral() -> PlaneDensity:
  """One of the arms, and thicker: all of one piece."""
  return _noisy_curve(_arm, power=2, sigma=0.2, num_panels=32, signs=(1.0,))


def _checkerboard() -> PlaneDensity:
  """Uniform on the eight dark squares of side 2 of [-4, 4)^2."""

  def sample(rng, num):
    column, row = rng.integers(4, size=num), rng.integers(2, size=num)
    corner = np.stack([column, 2 * row + column % 2], axis=1)
    return 2 * (corner + rng.uniform(size=(num, 2))) - 4

  def log_prob(x):
    square = np.floor((x + 4) / 2)
    inside = ((square >= 0) & (square < 4)).all(-1) & (square.sum(-1) % 2 == 0)
    return np.where(inside, -np.log(32.0), -np.inf)

  return PlaneDensity(sample, log_prob)


DENSITIES: dict[str, Callable[[], PlaneDensity]] = {
    "two_moons": _two_moons,
    "eight_gaussians": _eight_gaussians,
    "ring8": _ring8,
    "grid": _grid,
    "rings": _rings,
    "checkerboard": _checkerboard,
    "spirals": _spirals,
    "ring": lambda: _rings(radii=(2.5,), sigma=0.25),
    "banana": _banana,
    "spiral": _spiral,
}


def load(request: Request) -> Dataset:
  """10,000 / 2,000 / 5,000 points [N, 2] in float32 with their true `log_prob`; `#train=N` makes it N to train on.

  Raise ConfigError for another name.
  """
  shape = request.argument
  if shape not in DENSITIES:
    raise ConfigError(f"data.name 'toy2d:{shape}' names no density; {nearest(shape, DENSITIES)}")
  density = DENSITIES[shape]()
  splits = {}
  sizes = {**SIZES, "train": request.integer("train", SIZES["train"], minimum=1)}
  for number, (split, num) in enumerate(sizes.items()):
    rng = np.random.Generator(np.random.Philox([SEED, zlib.crc32(shape.encode()), number]))
    splits[split] = MemorySplit({"x": density.sample(rng, num).astype(np.float32)})
  return Dataset(f"toy2d:{shape}", DataSpec(event=(2,), levels=None), splits, {"source": "synthetic", "seed": SEED},
                 log_prob=lambda x: density.log_prob(np.asarray(x, np.float64)), modes=density.modes)
