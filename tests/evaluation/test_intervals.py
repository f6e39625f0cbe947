"""Every interval that a report prints covers the truth as often as it says, by simulation; where not, as is said."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from gdm.evaluation.bracket import Bracket
from gdm.evaluation.classification import SplitClassification
from gdm.evaluation.intervals import Interval, brackets, is_doubtful, plus_minus, share_interval, skewness
from gdm.evaluation.kernel_distance import Gaussian, KernelDistance, PolynomialKernel
from gdm.evaluation.leaderboard import OverSeeds, Ranking, ScoredRow, SeedMean, with_differences
from gdm.evaluation.outliers import separation
from gdm.evaluation.scores import Scores, paired_difference
from gdm.evaluation.split_likelihood import LogZ, SplitLikelihood
from gdm.likelihood import Kind

REPEATS = 600
NOISE = 3.5 * (0.95 * 0.05 / REPEATS) ** 0.5  # of a share of so many repeats, in 3.5 standard errors: 0.031


def covered(intervals, truth):
  """The share of intervals that hold the truth."""
  return np.mean([low <= truth <= high for low, high in intervals])


def scored(nats, dims=None, **fields):
  dims = np.ones(len(nats), int) if dims is None else dims
  return SplitLikelihood(nats, dims, Kind.EXACT, (), 1, discrete=True, **fields)


def normal_log_z(rng, stderr):
  """A log Z of 0, as it was found, with a normal error."""
  found = stderr * rng.normal()
  return LogZ(found, stderr, (found - 1.96 * stderr, found + 1.96 * stderr), Kind.ESTIMATE)


@pytest.mark.fast_cases("2", "3")
@pytest.mark.parametrize("num", [2, 3, 10, 100])
def test_means_of_normal_scores(num):
  rng = np.random.default_rng(num)
  found = [scored(rng.normal(-5.0, 2.0, num)) for _ in range(REPEATS)]
  assert abs(covered([each.nats_ci95 for each in found], -5.0) - 0.95) < NOISE
  assert abs(covered([each.bits_per_dim_ci95 for each in found], 5.0 / np.log(2.0)) - 0.95) < NOISE


@pytest.mark.fast_cases("10-0.85-0.3", "30-0.89-0.9", "100-0.92-0.85")
# Of scores minus exp(N(0, 1)), skewed by -6: less than 95 %, and most reports say so where there are enough to know.
@pytest.mark.parametrize(("num", "expected", "told"), [(10, 0.85, 0.3), (30, 0.89, 0.9), (100, 0.92, 0.85),
                                                       (1000, 0.95, 0.15)])
def test_means_of_skewed_scores_cover_less_and_are_doubted(num, expected, told):
  rng = np.random.default_rng(num)
  found = [scored(-rng.lognormal(size=num)) for _ in range(REPEATS)]
  assert abs(covered([each.nats_ci95 for each in found], -np.exp(0.5)) - expected) < 0.04
  assert abs(np.mean([each.is_interval_doubtful for each in found]) - told) < 0.1


@pytest.mark.fast_cases("5-0.92", "20-0.95", "200-0.95")
@pytest.mark.parametrize(("num", "expected"), [(3, 0.93), (5, 0.92), (20, 0.95), (200, 0.95)])
def test_bits_of_examples_of_unlike_length(num, expected):
  """A ratio of sums, whose error is a little too small where the longest of a few examples decides it."""
  rng, intervals = np.random.default_rng(num), []
  for _ in range(REPEATS):
    dims = rng.integers(1, 50, num)
    intervals.append(scored(-np.log(2.0) * dims * rng.normal(2.0, 0.5, num), dims).bits_per_dim_ci95)
  assert abs(covered(intervals, 2.0) - expected) < NOISE


@pytest.mark.fast_cases("3-0.3", "50-1.0")
@pytest.mark.parametrize(("num", "stderr"), [(3, 0.3), (3, 3.0), (50, 0.01), (50, 1.0)])
def test_scores_under_an_estimated_log_z(num, stderr):
  rng, found = np.random.default_rng(num), []
  for _ in range(REPEATS):
    log_z = normal_log_z(rng, stderr)
    found.append(scored(rng.normal(size=num) - log_z.nats, np.full(num, 3), log_z=log_z))
  for name in ("nats_ci95", "bits_per_dim_ci95"):
    assert 0.95 - NOISE < covered([getattr(each, name) for each in found], 0.0) < 0.985


@pytest.mark.fast_cases("False-3-0.0", "False-3-0.5", "True-3-0.0", "True-3-0.5")
@pytest.mark.parametrize(("num", "stderr"), [(3, 0.0), (3, 0.5), (200, 0.0), (200, 0.05)])
@pytest.mark.parametrize("is_discrete", [False, True])
def test_paired_differences(num, stderr, is_discrete):
  rng, intervals = np.random.default_rng(num), []
  for _ in range(REPEATS):
    dims = rng.integers(30, 50, num)
    hard, per_dim = 30.0 * rng.normal(size=num), dims if is_discrete else np.ones(num)
    sides = [Scores(hard + nats + stderr * rng.normal(), dims, Kind.EXACT, stderr, (1.96 * stderr, 1.96 * stderr))
             for nats in (per_dim * rng.normal(0.1, 0.3, num), 0.0 * per_dim)]
    intervals.append(paired_difference(sides[:1], sides[1:], is_discrete).ci95)
  assert 0.95 - NOISE < covered(intervals, -0.1 / np.log(2.0) if is_discrete else 0.1) < 0.985


def seed_means(rng, num, names, spread):
  """A table of three seeds of each model, on the same examples: an effect of the example, of the seed, and of both."""
  hard, means = 5.0 * rng.normal(size=num), []
  for name, level in names.items():
    easier = level + rng.normal(0.0, 0.5, num)
    rows = []
    for seed in range(3):
      nats = hard + easier + spread * rng.normal() + 0.3 * rng.normal(size=num)
      report = {"model": name, "nats_mean": float(nats.mean()), "bits_per_dim": None, "num_examples": num}
      rows.append(ScoredRow(f"{name}{seed}", report, Path(name), scores=Scores(nats, np.ones(num, int))))
    means.append(SeedMean(tuple(rows), (0, 1, 2)))
  return Ranking(tuple(itertools.chain(*(mean.rows for mean in means))), tuple(means))


def test_means_over_seeds():
  rng = np.random.default_rng(0)
  runs = [[ScoredRow("", {"nats_mean": float(nats)}, Path()) for nats in rng.normal(-3.0, 1.0, 3)]
          for _ in range(REPEATS)]
  means = [OverSeeds.of(rows, (0, 1, 2), "nats_mean") for rows in runs]
  assert abs(covered([Interval.around(found.mean, found.half) for found in means], -3.0) - 0.95) < NOISE


@pytest.mark.parametrize("spread", [pytest.param(0.0, marks=pytest.mark.slow), 0.2,
                                    pytest.param(2.0, marks=pytest.mark.slow)])
def test_differences_of_means_over_seeds_cover_that_over_all_examples_and_seeds(spread):
  rng, intervals = np.random.default_rng(1), []
  for _ in range(150):
    [table] = with_differences([seed_means(rng, 40, {"a": 0.0, "b": 1.0}, spread)], "a")
    intervals.append(table.means[1].difference.ci95)
  assert covered(intervals, 1.0) > 0.91


@pytest.mark.parametrize("num", [1, 5, 30, 300])
def test_the_share_of_labels_is_covered_whatever_it_is(num):
  """By sums over all that can happen, and not by simulation."""
  def interval(hits):
    right = np.arange(num) < hits
    return SplitClassification(np.zeros(num), right, np.ones(num), np.zeros(num)).accuracy.ci95

  intervals = np.array([interval(hits) for hits in range(num + 1)])
  for share in (0.0, 0.001, 0.02, 0.3, 0.5, 0.77, 0.97, 0.999, 1.0):
    covers = (intervals[:, 0] <= share) & (share <= intervals[:, 1])
    assert covers @ stats.binom.pmf(np.arange(num + 1), num, share) >= 0.95 - 1e-9
  assert intervals[-1][0] < 1.0 == intervals[-1][1] and intervals[0][0] == 0.0 < intervals[0][1]


SETS = {
    "alike": ((0.0, 1.0), 0.5, 0.94), "wider": ((0.0, 5.0), 0.5, 0.94), "apart": ((2.0, 1.0), 0.9214, 0.94),
    "far apart": ((4.0, 1.0), 0.99766, 0.92),
}


@pytest.mark.fast_cases("alike-sizes0", "wider-sizes0", "far apart-sizes2")
@pytest.mark.parametrize("sizes", [(5, 5), (20, 20), (10, 50), (100, 100)])
@pytest.mark.parametrize("sets", SETS)
def test_areas_under_roc_curves(sets, sizes):
  (mean, deviation), truth, least = SETS[sets]
  rng = np.random.default_rng(sizes)
  intervals = [separation(rng.normal(mean, deviation, sizes[0]), rng.normal(size=sizes[1])).ci95 for _ in range(400)]
  assert least - 0.03 < covered(intervals, truth)
  assert all(0.0 <= low < high <= 1.0 for low, high in intervals)


def test_areas_where_a_few_lie_on_the_wrong_side():
  """One in fifty scores below everything outside, so that most sets of 20 look perfectly separate."""
  rng, intervals = np.random.default_rng(0), []
  for _ in range(400):
    inside = np.where(rng.random(20) < 0.02, -9.0, 9.0) + rng.normal(size=20)
    intervals.append(separation(inside, rng.normal(size=100)).ci95)
  assert covered(intervals, 0.98) > 0.93


@pytest.mark.fast_cases("0.0-kernel1-40-0.97")
@pytest.mark.parametrize(("shift", "kernel", "num", "least"), [
    (0.0, PolynomialKernel(3), 40, 0.97), (0.0, Gaussian(2.0), 40, 0.97), (1.0, Gaussian(2.0), 40, 0.9),
    pytest.param(1.0, PolynomialKernel(3), 100, 0.87, marks=pytest.mark.slow),
    pytest.param(0.3, PolynomialKernel(3), 100, 0.82, marks=pytest.mark.slow)])
def test_kernel_distances_and_their_differences(shift, kernel, num, least):
  rng = np.random.default_rng(0)

  def drawn(size, shift=0.0):
    return rng.normal(size=(size, 3)) + shift

  large = KernelDistance(kernel, drawn(2000))  # its own error is a seventh of those simulated, or less
  truth = large.squared(large.moments(drawn(2000, shift))).value if shift else 0.0
  distances, differences = [], []
  for _ in range(150):
    from_data = KernelDistance(kernel, drawn(num))
    one, two = (from_data.moments(drawn(num, shift)) for _ in range(2))
    found, apart = from_data.squared(one), from_data.difference(one, two)
    distances.append((found.value - found.half, found.value + found.half))
    differences.append((apart.value - apart.half, apart.value + apart.half))
  assert covered(distances, truth) > least
  assert covered(differences, 0.0) > 0.93


def test_widths_of_brackets():
  rng, intervals = np.random.default_rng(0), []
  for _ in range(REPEATS):
    hard, log_z = 9.0 * rng.normal(size=4), normal_log_z(rng, 0.2)
    bracket = Bracket(10, scored(hard + rng.normal(0.0, 0.3, 4)), scored(hard + 0.5 - log_z.nats, log_z=log_z))
    intervals.append(bracket.width_ci95)
  assert 0.95 - NOISE < covered(intervals, 0.5) < 0.985


def test_shares_of_tables():
  np.testing.assert_allclose(share_interval(0.0, 10), (0.0, 0.30850), atol=1e-5)  # Clopper and Pearson's
  np.testing.assert_allclose(share_interval(0.5, 10), (0.18709, 0.81291), atol=1e-5)
  assert share_interval(1.0, 3)[1] == 1.0


def test_skewness_is_scipy_s_and_doubt_needs_enough_examples_to_know():
  values = np.random.default_rng(0).gamma(1.0, size=40)
  np.testing.assert_allclose(skewness(values), stats.skew(values))
  assert skewness(np.full(4, 3.0)) == 0.0 and not is_doubtful(np.full(4, 3.0))
  assert not is_doubtful(np.array([0.0, 0.0, 1.0])) and is_doubtful(np.eye(1, 40)[0])


def test_texts():
  assert plus_minus(1.9312, (1.9189, 1.9435)) == "1.9312 ± 0.0123"
  assert plus_minus(-0.5, (-0.9, -0.4), digits=1, sign="+") == "-0.5 -0.4 +0.1"
  assert plus_minus(2.0, None, sign="+") == "+2.0000"
  assert brackets(0.97326, (0.9, 1.0)) == "0.9733 [0.9000, 1.0000]"
