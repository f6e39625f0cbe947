"""Folds, draws and crossings of learning curves."""

import numpy as np
import pytest

from gdm.errors import ConfigError, DataError
from gdm.evaluation.learning_curve import crossing, draw_training, grouped_folds, mean_error


def test_equal_examples_share_a_fold_and_folds_are_of_one_size():
  rng = np.random.default_rng(0)
  x = rng.integers(0, 3, (600, 5)).astype(np.float32)  # 243 kinds
  folds = grouped_folds(x, 10)
  kinds = np.unique(x, axis=0, return_inverse=True)[1].reshape(-1)
  assert all(len(np.unique(folds[kinds == kind])) == 1 for kind in np.unique(kinds))
  counts = np.bincount(folds, minlength=10)
  assert counts.sum() == 600 and np.ptp(counts) <= 3
  np.testing.assert_array_equal(folds, grouped_folds(x, 10))
  assert np.any(folds != grouped_folds(x, 10, seed=1))
  np.testing.assert_array_equal(grouped_folds(np.array(["a", "b", "a"]), 2)[[0]], grouped_folds(np.array(
      ["a", "b", "a"]), 2)[[2]])
  with pytest.raises(DataError, match="2 distinct examples cannot be put into 3 folds"):
    grouped_folds(np.array(["a", "b", "a"]), 3)
  with pytest.raises(ConfigError, match="num_folds is 1"):
    grouped_folds(x, 1)


def test_draws_have_two_of_each_label_and_no_example_twice():
  y = np.repeat([0, 1], [190, 10])
  rows = [draw_training(y, 20, np.random.default_rng(seed)) for seed in range(50)]
  assert all(len(set(each)) == 20 and y[each].sum() >= 2 for each in rows)
  for size, labels in ((3, y), (201, y), (4, np.array([0, 0, 0, 0, 1]))):
    with pytest.raises(ConfigError, match=f"size is {size}"):
      draw_training(labels, size, np.random.default_rng(0))
  with pytest.raises(ConfigError, match="choose a larger one"):
    draw_training(np.repeat([0, 1], [100_000, 2]), 4, np.random.default_rng(0))


def test_curves_cross_where_the_first_ceases_to_be_the_better_one():
  rng = np.random.default_rng(0)
  noise = 0.005 * rng.normal(size=(2, 4, 10))
  first = np.array([[0.2], [0.18], [0.17], [0.17]]) + noise[0]
  second = np.array([[0.3], [0.2], [0.1], [0.08]]) + noise[1]
  assert crossing([10, 20, 50, 100], first, second) == (20, 50, True)
  assert crossing([10, 20, 50, 100], second, first) is None
  assert crossing([10, 20, 50, 100], first, first) is None
  noisy = np.array([[0.3], [0.2], [0.16], [0.16]]) + np.tile([-0.3, 0.3], 5)  # of each mean, whatever the draws
  assert crossing([10, 20, 50, 100], np.tile([[0.2], [0.18], [0.17], [0.17]], 10), noisy) == (20, 50, False)


def test_the_interval_of_a_mean_error_is_students_and_of_one_draw_unbounded():
  found = mean_error(np.array([0.1, 0.2, 0.3]))
  half = 4.302653 * 0.1 / 3**0.5
  np.testing.assert_allclose([found.value, *found.ci95], [0.2, 0.2 - half, 0.2 + half], rtol=1e-6)
  assert mean_error(np.array([0.1])).ci95.high == np.inf
