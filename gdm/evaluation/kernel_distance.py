"""The distance of samples from data: the squared maximum mean discrepancy, unbiased, with its standard error.

MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y) of samples x and data y (Gretton et al., A kernel two-sample test, JMLR
2012, section 2; the unbiased estimate is their equation 3). It is taken on the values of the data themselves, scaled,
not on the features of a network trained on other data: with the cubic kernel it is the KID's formula (Binkowski et al.,
arXiv:1801.01401, section 4) on pixels, and its numbers are no KID.

The standard error is that of a U-statistic of both samples and data (Hoeffding, 1948): of its linear part, which is all
that counts where the two differ, and of its quadratic part, which is all there is where they are alike. Every variance
in it has an unbiased estimate. Means over subsets, as KIDs are often reported, share their data, so that their spread
is that of a subset and not of the number reported; and disjoint blocks cost most of the precision where data are few.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from gdm.dataspec import DataSpec
from gdm.distributions.moments import ROUNDING
from gdm.errors import DataError, NotFiniteError
from gdm.evaluation.distances import squared_distances
from gdm.evaluation.intervals import student_975

Points = Float[np.ndarray, "_ dims"]
# Positive definite, of the rows of x [n, dims] and y [m, dims]: [n, m].
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]

LEAST = 4  # points on either side: fewer leave nothing to estimate the quadratic part from
_CHUNK_VALUES = 1 << 21  # values of the kernel at a time
_MEDIAN_POINTS = 2000  # points whose distances the median is of


@dataclasses.dataclass(frozen=True)
class PolynomialKernel:
  """(x . y / dims + 1)^degree: blind to all but the moments up to `degree` (arXiv:1801.01401, section 4)."""

  degree: int = 3

  def __call__(self, x: Float[np.ndarray, "n dims"], y: Float[np.ndarray, "m dims"]) -> Float[np.ndarray, "n m"]:
    return (x @ y.T / x.shape[1] + 1.0) ** self.degree


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """exp(-|x - y|^2 / (2 bandwidth^2)): zero distance only between equal distributions."""

  bandwidth: float

  def __call__(self, x: Float[np.ndarray, "n dims"], y: Float[np.ndarray, "m dims"]) -> Float[np.ndarray, "n m"]:
    return np.exp(squared_distances(x, y) / (-2.0 * self.bandwidth**2))


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
  """Examples as rows of real numbers: flattened, less `offset`, over `width`."""

  offset: float | Float[np.ndarray, " dims"]
  width: float | Float[np.ndarray, " dims"]

  @classmethod
  def of(cls, spec: DataSpec, x: Num[np.ndarray, "_ ..."]) -> "Scale":
    """Levels to [0, 1]; real numbers to mean 0 and standard deviation 1 over `x` in each dimension that varies by more
    than its rounding."""
    if spec.levels is not None:
      return cls(0.0, spec.levels - 1.0)
    flat = x.reshape(len(x), -1).astype(np.float64)
    deviation = flat.std(axis=0)
    varies = deviation > ROUNDING * np.max(np.abs(flat), axis=0)
    return cls(flat.mean(axis=0), np.where(varies, deviation, 1.0))

  def __call__(self, x: Num[np.ndarray, "_ ..."]) -> Points:
    """Rows in float64. Raise NotFiniteError naming the first example with NaN or infinity."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    if not np.isfinite(flat).all():
      index = int(np.argmin(np.isfinite(flat).all(axis=1)))
      raise NotFiniteError(f"example {index} holds NaN or infinity; no distance can be taken of it.")
    return (flat - self.offset) / self.width


def median_bandwidth(x: Points) -> float:
  """Return the median distance between points (Gretton et al. 2012, section 8), of at most 2,000 spread over `x`.

  Raise DataError where it is 0: most points are the same.
  """
  some = x[np.linspace(0, len(x) - 1, min(len(x), _MEDIAN_POINTS)).astype(int)]
  squares = squared_distances(some, some)[np.triu_indices(len(some), 1)]
  median = math.sqrt(max(float(np.median(squares)), 0.0)) if len(squares) else 0.0
  if median < 1e-6:
    raise DataError(f"the median distance between {len(some)} examples is 0; a Gaussian kernel needs examples that "
                    "differ.")
  return median


class DistanceEstimate(NamedTuple):
  """An estimate, its standard error, and half the width of its 95 % interval.

  The interval is Student's, with as many degrees of freedom as the smallest set has points, less one. By simulation it
  covers 99 in 100 cases where samples and data are alike, and 82 to 96 where they differ and the sets are of 10 to 100
  points, since the linear part of the error is then estimated from few points.
  """

  value: float
  stderr: float
  half: float

  @classmethod
  def of(cls, value: float, variance: float, *sizes: int) -> "DistanceEstimate":
    stderr = math.sqrt(variance)
    return cls(value, stderr, student_975(min(sizes) - 1) * stderr)


class Within(NamedTuple):
  """The kernel among points of one set.

  Attributes:
    mean: over all pairs.
    effect: what each point adds to the mean of its pairs.
    rest: the variance of k(x, x') that the effects leave.
  """

  mean: float
  effect: Float[np.ndarray, " points"]
  rest: float


@dataclasses.dataclass(frozen=True, eq=False)
class KernelMoments:
  """Samples as a kernel sees them beside the data.

  Attributes:
    within: the kernel among samples.
    mean: of k(x, y) over all samples and data.
    effect: what each sample adds to the mean of its pairs with the data.
    data_effect: what each example of the data adds to the mean of its pairs with the samples.
    rest: the variance of k(x, y) that the effects leave.
  """

  within: Within
  mean: float
  effect: Float[np.ndarray, " samples"]
  data_effect: Float[np.ndarray, " data"]
  rest: float

  @property
  def _linear(self) -> float:
    """The part of the variance from what each sample does to the distance by itself."""
    num, num_data = len(self.effect), len(self.data_effect)
    noise = self.within.rest / (num - 2) + self.rest / num_data
    return 4.0 * _variance(self.within.effect - self.effect, noise) / num

  @property
  def _quadratic(self) -> float:
    """The part of the variance from what samples and data do in pairs."""
    num, num_data = len(self.effect), len(self.data_effect)
    return 2.0 * self.within.rest / (num * (num - 1)) + 4.0 * self.rest / (num * num_data)

  @property
  def _data_noise(self) -> float:
    """The variance of an entry of `data_effect` that comes from the samples being finitely many."""
    return self.rest / len(self.effect)


class KernelDistance:
  """Squared MMD of any number of sets of samples from the same data, by one kernel.

  Samples are taken to be independent of each other, of the data, and of those of other sets.
  """

  def __init__(self, kernel: Kernel, data: Points):
    """Raise DataError of fewer than four examples."""
    _require_enough(data, "data")
    self._kernel, self._data = kernel, data
    self._within = _within(kernel, data)

  def moments(self, samples: Points) -> KernelMoments:
    """Return the statistics that `squared` and `difference` need of samples. Raise DataError for fewer than four."""
    _require_enough(samples, "samples")
    within = _within(self._kernel, samples)
    rows, columns, squares = _sums(self._kernel, samples, self._data)
    num, num_data = len(samples), len(self._data)
    mean = float(rows.sum()) / (num * num_data)
    effect, data_effect = rows / num_data - mean, columns / num - mean
    left = (squares - num * num_data * mean**2 - num_data * float(effect @ effect)
            - num * float(data_effect @ data_effect))
    return KernelMoments(within, mean, effect, data_effect, max(left, 0.0) / ((num - 1) * (num_data - 1)))

  def squared(self, samples: KernelMoments) -> DistanceEstimate:
    """Return the squared MMD and its standard error over draws of both samples and data; unbiased, so it may be
    negative."""
    num_data = len(self._data)
    value = samples.within.mean + self._within.mean - 2.0 * samples.mean
    noise = self._within.rest / (num_data - 2) + samples._data_noise
    variance = (samples._linear + samples._quadratic + 2.0 * self._within.rest / (num_data * (num_data - 1))
                + 4.0 * _variance(self._within.effect - samples.data_effect, noise) / num_data)
    return DistanceEstimate.of(value, variance, len(samples.effect), num_data)

  def difference(self, samples: KernelMoments, others: KernelMoments) -> DistanceEstimate:
    """Squared MMD of `samples` less that of `others` from the same data; positive where `samples` are farther.

    Far surer than the two numbers where data are few, since most of their error is the data's and the same in both.
    The first-order part is that of Bounliphone et al., arXiv:1511.04581, theorem 1, for independent sets.
    """
    value = samples.within.mean - others.within.mean - 2.0 * (samples.mean - others.mean)
    shared = _variance(samples.data_effect - others.data_effect, samples._data_noise + others._data_noise)
    variance = sum(side._linear + side._quadratic for side in (samples, others)) + 4.0 * shared / len(self._data)
    return DistanceEstimate.of(value, variance, len(samples.effect), len(others.effect), len(self._data))


def _within(kernel: Kernel, x: Points) -> Within:
  """Fit k(x_i, x_j) = mean + effect_i + effect_j to all pairs of different points, by least squares."""
  num = len(x)
  rows, _, squares = _sums(kernel, x, x)
  itself = np.concatenate([np.diagonal(kernel(part, part)) for part in np.array_split(x, -(-num // 64))])
  rows, squares, pairs = rows - itself, squares - float(itself @ itself), num * (num - 1)
  mean = float(rows.sum()) / pairs
  effect = (rows - (num - 1) * mean) / (num - 2)
  left = (squares - pairs * mean**2) / 2.0 - (num - 2) * float(effect @ effect)
  return Within(mean, effect, max(left, 0.0) / (num * (num - 3) / 2.0))


def _sums(kernel: Kernel, x: Points, y: Points) -> tuple[np.ndarray, np.ndarray, float]:
  """Sum of k(x_i, y_j) over j [n] and over i [m], and that of all squares, a few rows at a time."""
  size = max(1, _CHUNK_VALUES // len(y))
  rows, columns, squares = [], np.zeros(len(y)), 0.0
  for start in range(0, len(x), size):
    values = kernel(x[start:start + size], y)
    rows.append(values.sum(axis=1))
    columns += values.sum(axis=0)
    squares += float(np.vdot(values, values))
  return np.concatenate(rows), columns, squares


def _variance(effects: np.ndarray, noise: float) -> float:
  """Return the variance of the true effects: that of their estimates less the variance that these have of their own."""
  return max(float(np.var(effects, ddof=1)) - noise, 0.0)


def _require_enough(x: np.ndarray, what: str) -> None:
  if len(x) < LEAST:
    raise DataError(f"{len(x)} {what} are too few for a kernel distance and its error; it takes at least {LEAST}.")
