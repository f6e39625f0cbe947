"""Groups of equal sizes, and the jackknife over them, which for a mean is its standard error."""

import numpy as np

from gdm.evaluation.grouping import GROUPS, jackknife_half, random_groups
from gdm.evaluation.intervals import student_975


def test_groups_are_of_equal_sizes_in_random_order():
  groups = random_groups(103, seed=0)
  assert sorted(np.bincount(groups)) == [10] * 7 + [11] * 3
  assert np.any(groups != np.arange(103) % GROUPS) and np.array_equal(groups, random_groups(103, seed=0))


def test_of_a_mean_it_is_the_standard_error_by_groups():
  x, groups = np.random.default_rng(0).normal(size=200), random_groups(200, seed=1)
  means = np.array([x[groups == group].mean() for group in range(GROUPS)])
  without = np.array([x[groups != group].mean() for group in range(GROUPS)])
  np.testing.assert_allclose(jackknife_half(without), student_975(9) * means.std(ddof=1) / np.sqrt(GROUPS))
