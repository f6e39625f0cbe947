"""Several dimensions at a step: the bound by its definition, and the best numbers against trying all."""

import itertools

import jax
import numpy as np
import pytest
from discrete_diffusion import spaces
from helpers.enumeration import assert_frequencies_match

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion import Parallel, ardm, even_counts, losses_by_masks, plan
from gdm.errors import ConfigError, SpecError

KEY = jax.random.key(0)


def total(losses, counts):
  """The bound of so many dimensions at each step."""
  left = len(losses) - np.cumsum((0, *counts[:-1]))
  return sum(count * losses[k - 1] for count, k in zip(counts, left, strict=True))


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
def test_a_plan_is_the_best_of_all(num_steps):
  losses = np.random.default_rng(num_steps).uniform(0.5, 2.0, 7)
  every = [counts for counts in itertools.product(range(1, 8), repeat=num_steps) if sum(counts) == 7]
  np.testing.assert_allclose(total(losses, plan(losses, num_steps)), min(total(losses, each) for each in every))


def test_the_bound_is_the_sum_over_steps():
  x = spaces.conditionals(4)[0]
  model, params = spaces.small(4), spaces.parameters(4)
  exact = np.array([spaces.bound(4, lambda num, k=k: (num == k) / k / [4, 6, 4, 1][k - 1]).mean() for k in range(1, 5)])
  losses = losses_by_masks(model, params, x, KEY, num_draws=64)
  np.testing.assert_allclose(losses, exact, rtol=0.03)
  for counts in ((4,), (1, 3), (2, 1, 1), (1, 1, 1, 1)):
    found = spaces.small(4, Parallel(counts)).log_likelihood(params, {}, {"x": x}, KEY, 256).nats
    np.testing.assert_allclose(-np.mean(found), total(exact, counts), rtol=0.01)
  np.testing.assert_allclose(total(exact, (1, 1, 1, 1)), -spaces.orders_bound(4).mean(), rtol=1e-6)


def test_samples_are_drawn_in_so_many_steps():
  """First two of three dimensions at once, then the last given both."""
  model, params = spaces.small(3, Parallel((2, 1))), spaces.parameters(3)
  drawn = model.sample(params, {}, KEY, 20_000)
  assert drawn.info["nfe"] == 2
  x, found = spaces.conditionals(3)
  terms = []
  for last in range(3):
    before = tuple(i != last for i in range(3))
    terms.append(found[False, False, False][:, list(before)].sum(axis=1) + found[before][:, last])
  assert_frequencies_match(drawn.x, x, np.exp(terms).mean(axis=0))


def test_counts():
  assert even_counts(10, 4) == (2, 3, 2, 3) and even_counts(3, 3) == (1, 1, 1)
  for call in (lambda: even_counts(3, 4), lambda: plan(np.ones(3), 0)):
    with pytest.raises(ConfigError, match=r"num_steps is [04]; it must be 1 to 3"):
      call()
  with pytest.raises(ConfigError, match="counts is"):
    Parallel((2, 0))
  model = ardm(DataSpec((3,), 2))
  params, carry = model.init(KEY, {})
  with pytest.raises(SpecError, match="counts add up to 4; they must add up to the 3 dimensions"):
    spaces.small(3, Parallel((2, 2))).log_likelihood(params, carry, {"x": np.zeros((1, 3), int)}, KEY)
