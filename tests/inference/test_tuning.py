"""A pilot run: it finds masses, steps and temperatures between Gaussians, where all of them are known."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.inference import tuning

KEY = jax.random.key(0)
DIMS = 10
CORRELATED = 0.999 * np.ones((DIMS, DIMS)) + 0.001 * np.eye(DIMS)


def bridge(covariance):
  """Log-densities from a standard Gaussian to that of a covariance."""
  precision = jnp.asarray(np.linalg.inv(covariance), jnp.float32)
  return lambda x, beta: -0.5 * ((1.0 - beta) * jnp.sum(jnp.square(x), axis=1)
                                 + beta * jnp.sum((x @ precision) * x, axis=1))


@functools.cache
def tuned(sharp=False):
  covariance = 1e-8 * np.eye(DIMS) if sharp else CORRELATED
  x = jax.random.normal(KEY, (1, tuning.NUM_CHAINS, DIMS))
  return jax.jit(lambda x: tuning.tune(bridge(covariance), x, jnp.ones(DIMS), KEY, num_leapfrog=4, longest_step=0.4))(x)


@pytest.mark.slow
def test_the_mass_is_that_of_the_density_at_its_temperature():
  found = tuned()
  assert 5 < found.num_rungs < tuning.MAX_RUNGS
  for rung in (0, int(found.num_rungs) // 2, int(found.num_rungs) - 1):
    beta, factor = float(found.betas[rung]), np.asarray(found.scales[rung], np.float64)
    precision = (1.0 - beta) * np.eye(DIMS) + beta * np.linalg.inv(CORRELATED)
    # In units of the scale all directions are about as wide; without a mass they would differ by a factor of 10^4.
    widths = np.linalg.eigvalsh(factor.T @ precision @ factor)
    assert 0.2 < widths.min() < 1.0 < widths.max() < 3.0
  assert np.all(found.step_sizes <= 0.4) and np.all(found.step_sizes[:found.num_rungs] > 0.1)


@pytest.mark.slow
def test_temperatures_are_of_even_length():
  """Between Gaussians the deviation of log f_1 - log f_0 is known at every temperature."""
  betas = np.asarray(tuned().ladder(100), np.float64)
  assert betas[0] == 0.0 and betas[-1] == 1.0 and np.all(np.diff(betas) > 0)
  ratios = np.linalg.eigvalsh(np.linalg.inv(CORRELATED))[:, None]
  lengths = []
  for low, high in itertools.pairwise(betas):
    between = np.linspace(low, high, 50)
    deviations = np.sqrt(0.5 * np.sum(np.square((ratios - 1.0) / (1.0 - between + between * ratios)), axis=0))
    lengths.append(np.trapezoid(deviations, between))
  assert max(lengths) < 2.5 * np.mean(lengths)
  even = np.linspace(0.0, 1.0, 101)  # as far apart as temperatures, the first step alone is longer than all of these
  first = np.linspace(even[0], even[1], 5000)
  assert np.trapezoid(np.sqrt(0.5 * np.sum(np.square((ratios - 1.0) / (1.0 - first + first * ratios)), axis=0)),
                      first) > 20 * np.mean(lengths)


@pytest.mark.slow
def test_a_target_beyond_the_rungs_is_reached_all_the_same():
  found = tuned(sharp=True)
  assert found.betas[-1] == 1.0 and found.num_rungs <= tuning.MAX_RUNGS
  assert np.all(np.isfinite(found.step_sizes)) and np.all(np.isfinite(found.scales))


@pytest.mark.slow
def test_many_dimensions_get_a_mass_each_and_what_is_known_none():
  deviations = np.geomspace(0.01, 1.0, tuning.DENSE_DIMS + 1)
  spread = jnp.ones(len(deviations)).at[0].set(0.0)
  x = jax.random.normal(KEY, (8, 16, len(deviations))).at[:, :, 0].set(0.0)
  found = jax.jit(lambda x: tuning.tune(
      lambda x, beta: -0.5 * jnp.sum(jnp.square(x) * (1.0 - beta + beta / jnp.square(deviations)), axis=1), x, spread,
      KEY, num_leapfrog=4, longest_step=0.4))(x)
  assert found.scales.shape == (tuning.MAX_RUNGS, len(deviations)) and np.all(found.scales[:, 0] == 0.0)
  np.testing.assert_allclose(found.scales[-1][1:] / deviations[1:], 1.0, atol=0.5)


@pytest.mark.slow
def test_groups_have_a_covariance_within_them():
  """Targets that are far apart and narrow: their places are no width."""
  centres = jnp.repeat(10.0 * jnp.arange(8.0), 16)[:, None]
  x = (centres + jax.random.normal(KEY, (128, 1))).reshape(8, 16, 1)

  def log_density(x, beta):
    return -0.5 * jnp.sum(jnp.square(x - centres), axis=1) * (1.0 + 3.0 * beta)

  found = jax.jit(lambda x: tuning.tune(log_density, x, jnp.ones(1), KEY, num_leapfrog=4, longest_step=0.4))(x)
  np.testing.assert_allclose(found.scales[-1][0, 0], 0.5, rtol=0.25)
