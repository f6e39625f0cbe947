"""Kernel distances against their closed forms: the value, its spread over repeats, and what is said of that spread."""

import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import DataError, NotFiniteError
from gdm.evaluation import kernel_distance
from gdm.evaluation.kernel_distance import Gaussian, KernelDistance, PolynomialKernel, Scale, median_bandwidth

DIMS, REPEATS = 3, 400
KERNELS = (Gaussian(1.5), PolynomialKernel())
# Name: (shift of the samples, their scale), of data from N(0, I).
CASES = {"equal": (0.0, 1.0), "near": (0.1, 1.0), "far": (1.0, 0.7)}


def normals(rng, num, shift=0.0, scale=1.0):
  return shift + scale * rng.standard_normal((num, DIMS))


def truth(kernel, shift, scale):
  """The squared MMD of N(shift, scale^2 I) from N(0, I)."""
  if isinstance(kernel, PolynomialKernel):
    return cubic(shift, scale, shift, scale) + cubic(0, 1, 0, 1) - 2 * cubic(shift, scale, 0, 1)
  h2 = kernel.bandwidth**2

  def mean(variance, distance):
    return (h2 / (h2 + variance))**(DIMS / 2) * np.exp(-DIMS * distance**2 / (2 * (h2 + variance)))

  return mean(2 * scale**2, 0) + mean(2, 0) - 2 * mean(scale**2 + 1, shift)


def cubic(a, s, b, t):
  """E (x.y / d + 1)^3 of N(a, s^2 I) and N(b, t^2 I), by Gauss-Hermite quadrature of each x_i y_i's moments."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(8)
  weights = weights / weights.sum()
  products = (a + s * nodes)[:, None] * (b + t * nodes)
  m1, m2, m3 = (np.einsum("i,j,ij", weights, weights, products**power) for power in (1, 2, 3))
  d = DIMS
  second = d * m2 + d * (d - 1) * m1**2
  third = d * m3 + 3 * d * (d - 1) * m2 * m1 + d * (d - 1) * (d - 2) * m1**3
  return third / d**3 + 3 * second / d**2 + 3 * m1 + 1


@pytest.fixture(scope="module", params=KERNELS, ids=lambda kernel: type(kernel).__name__)
def repeats(request):
  """Kernel, and for each case the values and errors [REPEATS] of distances and of differences from the first case."""
  rng, found = np.random.default_rng(0), {name: [] for name in CASES}
  for _ in range(REPEATS):
    distance = KernelDistance(request.param, normals(rng, 30))
    reference = distance.moments(normals(rng, 50))
    for name, case in CASES.items():
      moments = distance.moments(normals(rng, 40, *case))
      found[name].append((distance.squared(moments), distance.difference(moments, reference)))
  return request.param, {name: np.moveaxis(np.array(values), 0, -1) for name, values in found.items()}


@pytest.mark.fast_cases("Gaussian-near", "Gaussian-far", "Polynomial-near", "Polynomial-far")
@pytest.mark.parametrize("case", CASES)
def test_distances_and_differences_are_unbiased(repeats, case):
  kernel, found = repeats
  expected = truth(kernel, *CASES[case])
  for values, *_ in found[case]:
    assert abs(values.mean() - expected) < 4 * values.std(ddof=1) / np.sqrt(REPEATS)
  if case == "equal":
    assert 0.3 < np.mean(found[case][0, 0] < 0) < 0.8


@pytest.mark.parametrize("case", CASES)
def test_the_standard_error_is_the_spread_over_repeats(repeats, case):
  kernel, found = repeats
  for values, errors, _ in found[case]:
    # A linear part below 0 is taken for 0, which lifts the error where there is none, at these few points.
    assert 0.85 < np.sqrt(np.mean(errors**2)) / values.std(ddof=1) < 1.35
    assert np.mean(np.abs(values - truth(kernel, *CASES[case])) < 2 * errors) > 0.88


@pytest.mark.slow
def test_variances_are_unbiased_where_nothing_is_clipped(monkeypatch):
  monkeypatch.setattr(kernel_distance, "_variance", lambda effects, noise: float(np.var(effects, ddof=1)) - noise)
  monkeypatch.setattr(kernel_distance.math, "sqrt", lambda variance: variance)  # so that the "error" is the variance
  rng, found = np.random.default_rng(1), []
  for _ in range(2000):
    distance = KernelDistance(Gaussian(1.5), normals(rng, 8))
    one, two = distance.moments(normals(rng, 6)), distance.moments(normals(rng, 7))
    found.append((distance.squared(one), distance.difference(one, two)))
  for values, variances, _ in np.moveaxis(np.array(found), 0, -1):
    squares = (values - values.mean())**2
    spread = np.sqrt((variances.var() + squares.var()) / len(values))
    assert abs(variances.mean() - squares.mean()) < 4 * spread


def test_sums_are_those_of_the_whole_matrices_however_they_are_cut(monkeypatch):
  rng = np.random.default_rng(2)
  x, y, kernel = normals(rng, 70, 0.5), normals(rng, 90), PolynomialKernel()
  whole = (np.sum(kernel(x, x)) - np.trace(kernel(x, x))) / (70 * 69) + (
      np.sum(kernel(y, y)) - np.trace(kernel(y, y))) / (90 * 89) - 2 * kernel(x, y).mean()
  seen = []
  for size in (1 << 21, 500):
    monkeypatch.setattr(kernel_distance, "_CHUNK_VALUES", size)
    distance = KernelDistance(kernel, y)
    seen.append(distance.squared(distance.moments(x)))
  np.testing.assert_allclose(seen[0], seen[1], rtol=1e-9)
  np.testing.assert_allclose(seen[0].value, whole, rtol=1e-9)


def test_a_difference_is_that_of_the_distances_and_surer_where_data_are_few():
  rng = np.random.default_rng(3)
  distance = KernelDistance(Gaussian(1.5), normals(rng, 20))
  one, two = distance.moments(normals(rng, 400, 0.5)), distance.moments(normals(rng, 500, 0.55))
  difference, parts = distance.difference(one, two), (distance.squared(one), distance.squared(two))
  np.testing.assert_allclose(difference.value, parts[0].value - parts[1].value, atol=1e-12)
  assert difference.stderr < 0.6 * np.hypot(parts[0].stderr, parts[1].stderr)
  back = distance.difference(two, one)
  np.testing.assert_allclose(back, (-difference.value, difference.stderr, difference.half))


def test_levels_become_shares_and_real_numbers_standard():
  levels = np.array([[[0], [16]], [[8], [4]]], np.uint8)
  np.testing.assert_array_equal(Scale.of(DataSpec((2, 1), 17), levels)(levels), [[0, 1], [0.5, 0.25]])
  real = np.random.default_rng(0).normal(3.0, 5.0, (50, 2)).astype(np.float32)
  real[:, 1] = 7.0
  scaled = Scale.of(DataSpec((2,), None), real)(real)
  np.testing.assert_allclose(scaled[:, 0].mean(), 0.0, atol=1e-6)
  np.testing.assert_allclose(scaled[:, 0].std(), 1.0, rtol=1e-6)
  np.testing.assert_array_equal(scaled[:, 1], 0.0)


def test_the_rounding_of_a_constant_is_no_scale():
  """A thousandth beside a column that is 0.1 but for its last digit was 100,000 deviations away."""
  column = np.where(np.arange(40) % 2, np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1)))
  real = np.stack([column, np.random.default_rng(0).normal(size=40)], axis=1).astype(np.float32)
  scaled = Scale.of(DataSpec((2,), None), real)(np.array([[0.101, 0.0]], np.float32))
  assert abs(scaled[0, 0]) < 0.01


def test_the_bandwidth_is_the_median_distance():
  x = np.random.default_rng(0).normal(size=(31, 4))
  distances = [np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[:i]]
  np.testing.assert_allclose(median_bandwidth(x), np.median(distances))


def test_what_no_distance_can_be_taken_of():
  points = np.zeros((5, 2))
  with pytest.raises(DataError, match="median distance between 5 examples is 0"):
    median_bandwidth(points)
  with pytest.raises(DataError, match="3 data are too few"):
    KernelDistance(PolynomialKernel(), points[:3])
  with pytest.raises(DataError, match="2 samples are too few"):
    KernelDistance(PolynomialKernel(), points).moments(points[:2])
  points[3, 1] = np.nan
  with pytest.raises(NotFiniteError, match="example 3 holds NaN"):
    Scale(0.0, 1.0)(points)
