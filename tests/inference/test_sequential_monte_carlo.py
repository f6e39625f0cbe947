"""Sequential Monte Carlo: its Z is unbiased, its resampling too, and the shares of modes are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.inference import annealed_importance as annealing
from gdm.inference import sequential_monte_carlo as smc

MEAN, SCALE = 2.0, 0.2
LOG_Z = 0.5 * np.log(2 * np.pi) + np.log(SCALE)
KEYS = jax.random.split(jax.random.key(0), 400)


def log_density(x, beta):
  return -0.5 * ((1 - beta) * jnp.square(x) + beta * jnp.square((x - MEAN) / SCALE))[:, 0]


def moved(key, x, beta):
  precision = (1 - beta) + beta / SCALE**2
  mean = beta * MEAN / SCALE**2 / precision
  return mean + 0.8 * (x - mean) + 0.6 * jax.random.normal(key, x.shape) / jnp.sqrt(precision)


PATH = annealing.Path(log_density, moved, lambda key, num: jax.random.normal(key, (num, 1)),
                      jnp.asarray(0.5 * np.log(2 * np.pi), jnp.float32))


@pytest.mark.slow
def test_the_mean_of_z_is_right_and_islands_tell_the_error():
  trial = jax.jit(jax.vmap(lambda key: smc.run(PATH, annealing.ladder(20), key, 8, 16)))
  swarm = trial(KEYS)
  assert np.mean(swarm.resampled) > 0.05  # some, so that it is tested
  z = np.exp(np.asarray(swarm.log_normalizers, np.float64) - LOG_Z).mean(axis=1)
  assert abs(z.mean() - 1.0) < 4.0 * z.std() / np.sqrt(len(z))
  found = jax.vmap(annealing.estimate)(swarm.log_normalizers)
  covered = np.mean((found.interval[:, 0] <= LOG_Z) & (found.interval[:, 1] >= LOG_Z))
  assert covered > 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(KEYS))
  assert np.mean(found.nats) < LOG_Z
  # Chains of the last rung are draws of the target, by their weights.
  mean = np.sum(swarm.weights * swarm.x[..., 0], axis=2).mean()
  assert abs(mean - MEAN) < 0.02
  assert np.all(swarm.ancestors < 16) and np.all(swarm.effective_share <= 1.001) and np.all(swarm.acceptance == 1.0)


def test_islands_of_a_target_that_is_nothing_beyond_an_edge_have_a_mean_of_z():
  """Chains beyond the edge, and islands that are there as a whole, made log Z NaN."""
  half = annealing.Path(lambda x, beta: jnp.where((x[:, 0] < 1) & (beta > 0), -jnp.inf, -0.5 * jnp.square(x[:, 0])),
                        lambda key, x, beta: x, PATH.sample_base, PATH.log_base_normalizer)
  swarm = jax.jit(lambda key: smc.run(half, annealing.ladder(3), key, 2000, 4))(KEYS[0])
  z = np.exp(np.asarray(swarm.log_normalizers, np.float64))
  truth = np.sqrt(2 * np.pi) * float(jax.scipy.stats.norm.sf(1.0))
  assert np.mean(z == 0) > 0.3 and abs(z.mean() - truth) < 4 * z.std() / np.sqrt(len(z))


def test_chains_are_taken_by_their_weights():
  weights = jnp.array([[0.0, 0.5, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])
  taken = np.asarray(jax.vmap(lambda key: smc.resampled(key, weights))(jax.random.split(jax.random.key(1), 4000)))
  counts = np.stack([(taken == chain).sum(axis=2).mean(axis=0) for chain in range(4)], axis=1)
  np.testing.assert_allclose(counts, 4 * weights, atol=0.04)
  assert np.all(taken[:, 1] == np.arange(4))  # of even weights each is taken once


def test_weights_that_are_nothing_everywhere_are_even_and_nan_counts_as_nothing():
  found = smc.normalized(jnp.array([[-jnp.inf, -jnp.inf], [jnp.nan, 0.0], [800.0, 800.0]]))
  np.testing.assert_allclose(found, [[0.5, 0.5], [0.0, 1.0], [0.5, 0.5]])


@pytest.mark.slow
def test_modes_get_their_shares_where_annealing_alone_gets_them_wrong():
  """Two modes of one weight and of unlike widths, between which no chain crosses once they have parted."""
  places, widths = jnp.array([-4.0, 4.0]), jnp.array([0.05, 0.8])

  def of_modes(x):
    return jax.nn.logsumexp(-0.5 * jnp.square((x - places) / widths) - jnp.log(widths), axis=1)

  def density(x, beta):
    return (1.0 - beta) * -0.5 * jnp.square(x[:, 0] / 4.0) + beta * of_modes(x)

  def walk(key, x, beta):
    """Metropolis steps that suit the narrower mode."""

    def one(x, key):
      move_key, accept_key = jax.random.split(key)
      size = jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 2), 0.5, x.shape), 0.1, 1.0)
      there = x + size * jax.random.normal(move_key, x.shape)
      better = jnp.log(jax.random.uniform(accept_key, (len(x),))) < density(there, beta) - density(x, beta)
      return jnp.where(better[:, None], there, x), None

    return jax.lax.scan(one, x, jax.random.split(key, 4))[0]

  path = annealing.Path(density, walk, lambda key, num: 4.0 * jax.random.normal(key, (num, 1)), jnp.zeros(()))
  betas, num = annealing.ladder(60), 4000
  alone = jax.jit(lambda key: annealing.forward(path, betas, key, num).x)(jax.random.key(2))
  swarm = jax.jit(lambda key: smc.run(path, betas, key, 1, num))(jax.random.key(2))
  drawn = smc.draws(jax.random.key(3), swarm, num)
  assert abs(np.mean(drawn < 0) - 0.5) < 0.06 < abs(np.mean(np.asarray(alone) < 0) - 0.5)
  np.testing.assert_allclose([np.std(drawn[drawn < 0]), np.std(drawn[drawn > 0])], widths, rtol=0.15)


def test_a_ladder_must_lead_from_the_base_to_the_target():
  with pytest.raises(ConfigError, match="temperatures must start at the base"):
    smc.run(PATH, np.array([0.5, 1.0]), jax.random.key(0), 1, 2)
