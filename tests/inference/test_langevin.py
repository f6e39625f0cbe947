"""Unadjusted Langevin dynamics of a Gaussian, whose bias is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.inference import langevin

KEY = jax.random.key(0)
SIGMA = jnp.array([0.5, 2.0])


def log_prob(x):
  return -0.5 * jnp.sum(jnp.square(x / SIGMA), axis=-1)


@jax.jit
def walked(step_sizes, temperatures=1.0):
  start = SIGMA * jax.random.normal(jax.random.key(1), (8000, 2))
  return langevin.walk(KEY, start, log_prob, step_sizes, temperatures, SIGMA)


def test_the_bias_falls_with_the_step_as_it_must():
  """x' = (1 - e) x + sqrt(2 e) z has the variance 1 / (1 - e / 2): too large by half the step."""
  for size in (0.4, 0.02):
    found = np.var(np.asarray(walked(jnp.full(100, size)) / SIGMA), axis=0)
    np.testing.assert_allclose(found, 1.0 / (1.0 - 0.5 * size), rtol=0.06)


@pytest.mark.slow
def test_a_schedule_takes_the_bias_away_and_a_temperature_scales_the_variance():
  sizes = jnp.asarray(langevin.geometric(0.4, 0.01, 100), jnp.float32)
  np.testing.assert_allclose(np.var(np.asarray(walked(sizes) / SIGMA), axis=0), 1.0, rtol=0.06)
  cold = np.asarray(walked(sizes, jnp.linspace(1.0, 0.25, 100)) / SIGMA)
  assert np.all((cold.var(axis=0) > 0.25) & (cold.var(axis=0) < 0.45))
  assert np.abs(np.asarray(walked(jnp.full(100, 0.1), jnp.zeros(100)) / SIGMA)).max() < 1e-3  # the mode


def test_what_has_no_scale_stays():
  moved = langevin.step(KEY, jnp.ones((4, 2)), log_prob, 0.1, scale=jnp.array([0.0, 1.0]))
  assert np.all(moved[:, 0] == 1.0) and np.all(moved[:, 1] != 1.0)


def test_a_chain_that_leaves_the_numbers_is_seen_and_alone():
  end = np.asarray(langevin.walk(KEY, jnp.array([[0.0, 0.0], [jnp.inf, 0.0]]), log_prob, np.full(3, 0.1)))
  assert np.all(np.isfinite(end[0])) and not np.isfinite(end[1, 0])


def test_a_schedule_must_be_positive():
  with pytest.raises(ConfigError, match=r"from 0\.1 to 0"):
    langevin.geometric(0.1, 0.0, 5)
