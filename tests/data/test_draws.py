"""Draws that belong to an example."""

import numpy as np
import pytest
import scipy.stats

from gdm.data import draws


def test_draws_depend_on_the_example_and_not_on_its_batch():
  together = draws.words(3, 5, np.arange(1000), 33)
  alone = draws.words(3, 5, np.array([999, 7]), 33)
  np.testing.assert_array_equal(alone, together[[999, 7]])


def test_seeds_epochs_examples_and_names_have_draws_of_their_own():
  few = np.arange(50)
  variants = [draws.words(1, 0, few, 20), draws.words(2, 0, few, 20), draws.words(1, 1, few, 20),
              draws.words(1, 0, few + 50, 20), draws.words(draws.named(1, "train"), 0, few, 20),
              draws.words(draws.named(1, "valid"), 0, few, 20)]
  everything = np.concatenate([v.ravel() for v in variants])
  assert len(np.unique(everything)) > len(everything) - 5  # of 6000 words in 2^32, 0.004 collisions are expected


def test_draws_are_uniform_and_neighbours_are_independent():
  u = draws.uniforms(0, 0, np.arange(4000), 50)
  assert u.min() >= 0 and u.max() < 1
  assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
  for shifted in (u[1:] * u[:-1], u[:, 1:] * u[:, :-1]):
    # products of independent uniforms have mean 1/4 and variance 7/144
    assert abs(shifted.mean() - 0.25) < 4 * np.sqrt(7 / 144 / shifted.size)


def test_a_permutation_is_a_function_of_seed_and_epoch():
  orders = [draws.permutation(seed, epoch, 100) for seed, epoch in ((0, 0), (0, 1), (1, 0), (-1, 0))]
  for order in orders:
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
  assert len({tuple(order) for order in orders}) == 4
  np.testing.assert_array_equal(orders[1], draws.permutation(0, 1, 100))


@pytest.mark.parametrize("num", [1, 2, 3, 16, 17, 1000, 5000])
def test_an_order_that_is_never_written_out_is_a_permutation(num):
  orders = [draws.permuted(seed, epoch, num, np.arange(num)) for seed, epoch in ((0, 0), (0, 1), (1, 0), (-1, 0))]
  for order in orders:
    np.testing.assert_array_equal(np.sort(order), np.arange(num))
  assert num < 100 or len({tuple(order) for order in orders}) == 4
  np.testing.assert_array_equal(draws.permuted(0, 1, num, np.array([num - 1, 0])), orders[1][[-1, 0]])


def test_an_order_that_is_never_written_out_is_random():
  """Of many orders every example stands everywhere alike, and neighbours are as far apart as they come."""
  orders = np.array([draws.permuted(3, epoch, 10, np.arange(10)) for epoch in range(4000)])
  counts = np.array([np.bincount(column, minlength=10) for column in orders.T])
  assert scipy.stats.chi2.sf(((counts - 400) ** 2 / 400).sum(), 81) > 1e-3
  large = draws.permuted(0, 0, 1 << 40, np.arange(20000)).astype(float) / 2.0**40
  assert scipy.stats.kstest(large, "uniform").pvalue > 1e-3
  assert abs(np.corrcoef(large[1:], large[:-1])[0, 1]) < 4 / np.sqrt(20000)
