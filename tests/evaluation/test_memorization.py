"""The test for copies: honest samples score about 0 and copies far below; nearest neighbours are the nearest."""

import numpy as np
import pytest
import scipy.stats

from gdm.errors import DataError
from gdm.evaluation.distances import nearest
from gdm.evaluation.memorization import copy_test


def distances(points, train):
  return nearest(points, [train]).distances[:, 0]


def scored(samples, train, heldout):
  return copy_test(distances(samples, train), distances(heldout, train))


def test_fresh_draws_are_honest_and_noisy_copies_are_found():
  rng = np.random.default_rng(0)
  train, heldout, fresh = (rng.normal(size=(num, 5)) for num in (1000, 300, 400))
  assert abs(scored(fresh, train, heldout).z) < 3.0
  copies = train[:400] + 0.01 * rng.normal(size=(400, 5))
  found = scored(copies, train, heldout)
  assert found.z < -5.0 and found.closer.value > 0.99 and found.median_ratio is not None and found.median_ratio < 0.1
  half = scored(np.concatenate([copies[:200], fresh[:200]]), train, heldout)
  assert half.z < -5.0 and half.closer.ci95.low < 0.75 < half.closer.ci95.high  # half of them surely, half a coin
  assert scored(10.0 * fresh, train, heldout).z > 5.0


def test_honest_z_is_standard_normal_and_its_interval_covers():
  rng = np.random.default_rng(1)
  train = rng.normal(size=(300, 2))
  found = [scored(rng.normal(size=(60, 2)), train, rng.normal(size=(80, 2))) for _ in range(400)]
  assert scipy.stats.kstest([each.z for each in found], "norm").pvalue > 1e-3
  assert sum(each.closer.ci95.low <= 0.5 <= each.closer.ci95.high for each in found) >= 366  # binomial, 99.8 %


def test_ties_count_half_and_agree_with_scipy():
  rng = np.random.default_rng(2)
  a, b = (rng.integers(0, 4, num).astype(float) for num in (50, 70))
  found = copy_test(a, b)
  expected = scipy.stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False)
  assert 2.0 * scipy.stats.norm.sf(abs(found.z)) == pytest.approx(expected.pvalue)
  assert found.closer.value == pytest.approx(1.0 - expected.statistic / 3500.0)
  same = copy_test(np.zeros(30), np.zeros(30))
  assert same.z == 0.0 and same.closer.value == 0.5 and same.median_ratio is None


def test_copies_of_all_leave_the_interval_open():
  found = copy_test(np.zeros(40), 1.0 + np.arange(30.0))
  assert found.closer.value == 1.0 and found.closer.ci95 == pytest.approx((0.025 ** (1 / 30), 1.0))


def test_neighbours_come_in_order_from_any_part():
  rng = np.random.default_rng(3)
  points, train = rng.normal(size=(7, 3)), rng.normal(size=(40, 3))
  everything = np.sqrt(((points[:, None] - train) ** 2).sum(-1))
  order = np.argsort(everything, axis=1)[:, :3]
  found = nearest(points, np.split(train, [5, 6, 30]), k=3)
  np.testing.assert_array_equal(found.places, order)
  np.testing.assert_allclose(found.distances, np.take_along_axis(everything, order, axis=1))
  with pytest.raises(DataError, match="there are 2 points; 3 nearest"):
    nearest(points, [train[:2]], k=3)


def test_few_distances_are_refused():
  with pytest.raises(DataError, match="19 held-out examples are too few"):
    copy_test(np.zeros(30), np.zeros(19))
