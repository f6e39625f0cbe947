"""Consistency models: with the exact function of normal data the loss vanishes and one step draws from the data."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.diffusion.consistency import Consistency
from gdm.errors import ConfigError

KEY = jax.random.key(0)
MEAN, VARIANCE = 0.5, 0.4
LOW, HIGH, DATA = 0.002, 80.0, 0.5
STATISTICS = {"statistics": {"centre": jnp.zeros(2), "scale": jnp.ones(2)}}


class Exact(nn.Module):
  """The network of the consistency function of N(MEAN, VARIANCE): from x at sigma along the flow to sigma_min."""

  outputs: int = 0
  context: int = 0

  @nn.compact
  def __call__(self, x, time, context=None):
    sigma = LOW * (HIGH / LOW) ** time[:, None]
    state = x * jnp.hypot(DATA, sigma)  # the input is scaled to variance one
    value = MEAN + (state - MEAN) * jnp.sqrt((VARIANCE + LOW**2) / (VARIANCE + sigma**2))
    norm = jnp.hypot(sigma, DATA)
    skip, out = (DATA / norm) ** 2, sigma * DATA / norm
    return (value - skip * state) / out + self.param("zero", nn.initializers.zeros, ())


def exact(**fields):
  model = Consistency(DataSpec((2,), None), network=Exact(), **fields)
  data = MEAN + VARIANCE**0.5 * np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
  return model, model.init(KEY, {"x": data})[0], data


def test_one_step_of_the_exact_function_draws_from_the_data():
  model, params, _ = exact()
  for steps in (1, 2, 4):
    found = model.sample(params, STATISTICS, KEY, 4000, num_steps=steps)
    np.testing.assert_allclose(found.x.mean(axis=0), MEAN, atol=0.04)
    np.testing.assert_allclose(np.cov(np.asarray(found.x).T), VARIANCE * np.eye(2), atol=0.04)
    assert found.info["nfe"] == steps


def test_the_gap_between_levels_closes_as_they_come_nearer():
  """Of the exact function what is left is the difference between the flow and one noise for both levels, times the
  weight: it does not grow, and predictions at neighbouring levels agree."""
  gaps = []
  for levels in (10, 80):
    model, params, data = exact(first_levels=levels, last_levels=levels)
    lower, higher = model._pairs(jax.random.key(1), jnp.zeros((), jnp.int32), len(data))
    noise = np.random.default_rng(1).normal(size=data.shape)
    one, other = (model.predict(params, data + sigma[:, None] * noise, sigma / HIGH, None) for sigma in (higher, lower))
    gaps.append(float(jnp.mean(jnp.abs(one - other))))
  assert gaps[1] < 0.25 * gaps[0]


def test_the_lowest_level_keeps_its_input():
  model, params, data = exact()
  kept = model.predict(params, jnp.asarray(data), jnp.full(len(data), LOW / HIGH), None)
  np.testing.assert_allclose(kept, data, atol=1e-4)


def test_levels_are_doubled_and_pairs_are_neighbours():
  model, _, _ = exact(first_levels=10, last_levels=160, double_every=100)
  assert [int(model.num_levels(step)) for step in (0, 99, 100, 250, 399, 400, 10**6)] == [10, 10, 20, 40, 80, 160, 160]
  grid = (LOW ** (1 / 7) + np.arange(21) / 20 * (HIGH ** (1 / 7) - LOW ** (1 / 7))) ** 7
  lower, higher = (np.asarray(each) for each in model._pairs(KEY, jnp.asarray(100), 500))
  place = np.searchsorted(grid, lower * 1.001) - 1
  np.testing.assert_allclose(lower, grid[place], rtol=1e-3)
  np.testing.assert_allclose(higher, grid[place + 1], rtol=1e-3)
  assert 0.05 < np.median(lower) < 2.0  # log sigma is mostly near -1.1


def test_validation_is_least_for_the_data_itself():
  model, params, data = exact()
  own = np.mean(model.validate(params, STATISTICS, {"x": data[:300]}, KEY)["energy_score"])
  moved = np.mean(model.validate(params, STATISTICS, {"x": data[:300] + 1.0}, KEY)["energy_score"])
  assert own < moved - 0.2


@pytest.mark.parametrize(("fields", "message"), [
    ({"first_levels": 1}, "first_levels is 1"), ({"first_levels": 10, "last_levels": 5}, "last_levels is 5"),
    ({"double_every": 0}, "double_every is 0"), ({"steps": 0}, "steps is 0"),
    ({"sigma_min": 100.0}, "sigma_min is 100")])
def test_settings_that_cannot_be(fields, message):
  with pytest.raises(ConfigError, match=message):
    Consistency(DataSpec((2,), None), **fields)
