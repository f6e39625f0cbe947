"""Kernels on states that can be enumerated: their transition matrices keep the distribution and are reversible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import all_states, assert_frequencies_match

from gdm.inference import gibbs
from gdm.inference.gibbs_with_gradients import binary_step

SITES = 3
RNG = np.random.default_rng(0)
BIAS = jnp.asarray(RNG.normal(size=SITES), jnp.float32)
PAIRS = jnp.asarray(np.array([[0, 1.2, -0.7], [1.2, 0, 0.9], [-0.7, 0.9, 0]]), jnp.float32)
STATES = all_states(2, SITES)
KNOWN = jnp.array([False, True, False])


def log_density(x):
  return x @ BIAS + 0.5 * jnp.sum((x @ PAIRS) * x, axis=-1)


def logit(x, site):
  return x @ PAIRS[:, site] + BIAS[site]


def block(key, x, known=None):
  """Three hidden coins that look at one pair of sites each."""
  weights = jnp.array([[2.0, 0.0, -1.0], [1.0, 1.0, 0.0], [0.0, -2.0, 1.0]])

  def draw(matrix, bias):
    return lambda key, y: jax.random.bernoulli(key, jax.nn.sigmoid(y @ matrix + bias)).astype(jnp.float32)

  return gibbs.block_sweep(key, x, draw(weights, 0.3), draw(weights.T, BIAS), known)


def block_log_density(x):
  weights = jnp.array([[2.0, 0.0, -1.0], [1.0, 1.0, 0.0], [0.0, -2.0, 1.0]])
  return x @ BIAS + jnp.sum(jax.nn.softplus(x @ weights + 0.3), axis=-1)


KERNELS = {
    "block": (block, block_log_density),
    "sites": (lambda key, x, known=None: gibbs.site_sweep(key, x, logit, known), log_density),
    "gradients": (lambda key, x, known=None: binary_step(key, x, log_density, known).x, log_density),
}


def stationary(score, known=None, at=None):
  probs = np.exp(np.asarray(score(jnp.asarray(STATES, jnp.float32)), np.float64))
  if known is not None:
    probs = probs * np.all(STATES[:, known] == at[known], axis=1)
  return probs / probs.sum()


@pytest.mark.fast_cases("sites")
@pytest.mark.parametrize("name", KERNELS)
def test_a_step_keeps_the_distribution_and_is_reversible(name):
  kernel, score = KERNELS[name]
  num = 40_000
  start = jnp.repeat(jnp.asarray(STATES, jnp.float32), num, axis=0)
  probs = stationary(score)
  end = np.asarray(jax.jit(kernel)(jax.random.key(0), start)).reshape(len(STATES), num, SITES) @ [4, 2, 1]
  matrix = np.stack([np.bincount(row.astype(int), minlength=len(STATES)) for row in end]) / num
  flow = probs[:, None] * matrix
  error = 5 * np.sqrt((probs[:, None] ** 2) * matrix * (1 - matrix) / num + 1e-12)
  assert np.all(np.abs(flow - flow.T) <= error + error.T)
  np.testing.assert_allclose(probs @ matrix, probs, atol=0.005)


@pytest.mark.fast_cases("block")
@pytest.mark.parametrize("name", KERNELS)
def test_known_sites_stay_and_the_rest_is_drawn_given_them(name):
  kernel, score = KERNELS[name]
  at = np.array([0, 1, 1])
  start = jnp.broadcast_to(jnp.asarray(at, jnp.float32), (20_000, SITES))
  walk = jax.jit(lambda key, x: gibbs.repeat(lambda key, x: kernel(key, x, KNOWN), key, x, 30))
  end = np.asarray(walk(jax.random.key(1), start)).astype(int)
  assert np.all(end[:, 1] == 1)
  probs = stationary(score, np.asarray(KNOWN), at)
  assert_frequencies_match(end, STATES[probs > 0], probs[probs > 0])


@pytest.mark.slow
def test_acceptance_is_a_probability_and_one_where_the_gradient_tells_all():
  x = jnp.asarray(np.repeat(STATES, 10, axis=0), jnp.float32)
  acceptance = jax.jit(lambda x: binary_step(jax.random.key(1), x, log_density))(x).acceptance
  assert acceptance.min() >= 0 and acceptance.max() <= 1 and len(np.unique(acceptance)) > 5
  flat = jax.jit(lambda x: binary_step(jax.random.key(1), x, lambda x: 0.0 * x[..., 0]))(x)
  np.testing.assert_allclose(flat.acceptance, 1.0)
  assert np.all(np.sum(np.abs(np.asarray(flat.x - x)), axis=1) == 1)
