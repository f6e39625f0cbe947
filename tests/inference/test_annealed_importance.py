"""Annealing between two Gaussians, where everything is known, with a kernel that draws afresh or moves a little."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.inference import annealed_importance as annealing

MEAN, SCALE, BASE = 2.0, 0.5, 1.0
LOG_Z = 0.5 * np.log(2 * np.pi) + np.log(SCALE)


def log_density(x, beta):
  return -0.5 * ((1 - beta) * jnp.square(x / BASE) + beta * jnp.square((x - MEAN) / SCALE))[:, 0]


def moved(key, x, beta):
  """An autoregression of which the Gaussian at beta is stationary; reversible, and not its own only state."""
  precision = (1 - beta) / BASE**2 + beta / SCALE**2
  mean = beta * MEAN / SCALE**2 / precision
  return mean + 0.8 * (x - mean) + 0.6 * jax.random.normal(key, x.shape) / jnp.sqrt(precision)


PATH = annealing.Path(log_density, moved, lambda key, num: BASE * jax.random.normal(key, (num, 1)),
                      jnp.asarray(0.5 * np.log(2 * np.pi) + np.log(BASE), jnp.float32))
KEYS = jax.random.split(jax.random.key(0), 400)
TRIAL = jax.jit(jax.vmap(lambda key: annealing.estimate(
    annealing.forward(PATH, annealing.ladder(100), key, 50).log_weights)))


@pytest.mark.slow
def test_the_interval_covers_log_z_as_often_as_it_says():
  found = TRIAL(KEYS)
  covered = np.mean((found.interval[:, 0] <= LOG_Z) & (found.interval[:, 1] >= LOG_Z))
  assert covered > 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(KEYS))
  # and not by being endless: weights spread by about a half, so that a standard error is about 0.1
  assert np.mean(found.interval[:, 1] - found.interval[:, 0]) < 6 * np.mean(found.stderr) < 1.0
  np.testing.assert_allclose(np.std(found.nats), np.mean(found.stderr), rtol=0.25)
  assert np.all((found.effective_sample_size >= 1) & (found.effective_sample_size <= 50.001))


def test_the_mean_weight_is_unbiased_and_its_logarithm_too_low():
  nats = np.asarray(TRIAL(KEYS).nats, np.float64)
  weights = np.exp(nats - LOG_Z)
  assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(len(weights))
  assert nats.mean() < LOG_Z


@pytest.mark.slow
def test_backward_chains_score_from_below_and_more_temperatures_are_tighter():
  x = MEAN + SCALE * jax.random.normal(jax.random.key(1), (2000, 1))
  truth = np.mean(log_density(x, 1.0)) - LOG_Z
  gaps = []
  for num in (10, 100, 1000):
    score = jax.jit(lambda key, x, num=num: annealing.lower_bound(PATH, annealing.ladder(num), key, x))
    gaps.append(truth - np.mean(score(jax.random.key(2), x)))
  assert gaps[0] > gaps[1] > gaps[2] > 0
  assert gaps[2] < 0.1 < gaps[0]  # they fall as one over the number of temperatures


@pytest.mark.slow
def test_more_chains_per_example_raise_the_bound():
  x = MEAN + SCALE * jax.random.normal(jax.random.key(1), (1000, 1))
  one, many = (np.mean(annealing.lower_bound(PATH, annealing.ladder(10), jax.random.key(3), x, n)) for n in (1, 20))
  assert one < many < np.mean(log_density(x, 1.0)) - LOG_Z


@pytest.mark.slow
def test_a_kernel_that_is_not_reversible_needs_its_reversal():
  """A walk round a ring of weighted states: backward scores are those of the forward sampler, by enumeration."""
  weights = jnp.array([1.0, 2.0, 4.0])
  cycle = jnp.array([[0.5, 0.5, 0.0], [0.0, 0.75, 0.25], [0.125, 0.0, 0.875]])  # keeps `weights`, round one way
  np.testing.assert_allclose(weights @ cycle, weights)
  back = (cycle * weights[:, None]).T / weights[:, None]

  def step(matrix):  # at beta 1 alone: a ladder of one step
    return lambda key, x, beta: jax.random.categorical(key, jnp.log(matrix)[x])

  path = annealing.Path(lambda x, beta: beta * jnp.log(weights)[x], step(cycle),
                        lambda key, num: jax.random.randint(key, (num,), 0, 3), jnp.log(3.0), step(back))
  end = np.full(3, 1 / 3) @ np.asarray(cycle)
  x = jnp.repeat(jnp.arange(3), 20_000)
  log_weights = jax.jit(lambda key, x: annealing.backward(path, np.array([0.0, 1.0]), key, x))(jax.random.key(0), x)
  found = np.exp(np.asarray(log_weights, np.float64)).reshape(3, -1).mean(axis=1)
  np.testing.assert_allclose(found, end, rtol=0.03)
  drawn = jax.jit(lambda key: annealing.forward(path, np.array([0.0, 1.0]), key, 60_000).x)(jax.random.key(1))
  np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 60_000, end, rtol=0.03)


def test_ladders_lead_from_the_base_to_the_target():
  for sharpness in (0.0, 4.0, 12.0):
    annealing.check_ladder(annealing.ladder(7, sharpness))
  np.testing.assert_allclose(annealing.ladder(4, 0.0), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("betas, message", [
    ([0.1, 1.0], r"betas\[0\] is 0.1; temperatures must start at the base"),
    ([0.0, 0.9], r"betas\[1\] is 0.9; temperatures must end at the target"),
    ([0.0, 0.5, 0.5, 1.0], r"betas\[2\] is 0.5 after 0.5; temperatures must increase"),
    ([0.0], r"betas has shape \(1,\)"),
    ([0.0, np.nan, 1.0], r"betas\[1\] is nan after 0"),
])
def test_bad_ladders_are_named(betas, message):
  with pytest.raises(ConfigError, match=message):
    annealing.forward(PATH, np.array(betas), jax.random.key(0), 2)
  with pytest.raises(ConfigError, match=message):
    annealing.backward(PATH, np.array(betas), jax.random.key(0), jnp.zeros((1, 1)))


def test_numbers_that_say_nothing_are_refused():
  with pytest.raises(ConfigError, match="num_chains is 1; a standard error needs at least 2"):
    annealing.estimate(jnp.zeros(1))
  with pytest.raises(ConfigError, match="num_temperatures is 0"):
    annealing.ladder(0)


HALF = annealing.Path(lambda x, beta: jnp.where((x[:, 0] < 0) & (beta > 0), -jnp.inf, -0.5 * jnp.square(x[:, 0])),
                      lambda key, x, beta: x, lambda key, num: jax.random.normal(key, (num, 1)),
                      jnp.asarray(0.5 * np.log(2 * np.pi), jnp.float32))
HALF_LOG_Z = 0.5 * np.log(np.pi / 2)


def test_a_target_that_is_nothing_beyond_an_edge_is_normalized():
  """Of chains beyond the edge the weights were -inf less -inf, and log Z NaN."""
  found = annealing.estimate(annealing.forward(HALF, annealing.ladder(3), KEYS[0], 2000).log_weights)
  assert float(found.interval[0]) < HALF_LOG_Z < float(found.interval[1]) < HALF_LOG_Z + 0.1
  scores = annealing.backward(HALF, annealing.ladder(3), KEYS[0], jnp.array([[1.0], [-1.0]]))
  np.testing.assert_allclose(scores, [-0.5 - 0.5 * np.log(2 * np.pi), -np.inf], rtol=1e-5)
  nowhere = annealing.estimate(jnp.full(4, -jnp.inf))
  assert float(nowhere.nats) == -np.inf and float(nowhere.stderr) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("num_chains", [6, 20])
def test_the_interval_covers_where_some_weights_are_0(num_chains):
  trial = jax.jit(jax.vmap(lambda key: annealing.estimate(
      annealing.forward(HALF, annealing.ladder(3), key, num_chains).log_weights)))
  found = trial(KEYS)
  covered = np.mean((found.interval[:, 0] <= HALF_LOG_Z) & (found.interval[:, 1] >= HALF_LOG_Z))
  assert covered > 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(KEYS))
