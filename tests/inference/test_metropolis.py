"""MALA and Hamiltonian Monte Carlo: known moments, reversible flows, and proposals that fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.inference import langevin, metropolis

KEY = jax.random.key(0)
COVARIANCE = np.array([[1.0, 0.9], [0.9, 2.0]])
PRECISION = jnp.asarray(np.linalg.inv(COVARIANCE), jnp.float32)
MEAN = jnp.array([1.0, -2.0])


def gaussian(x):
  return -0.5 * jnp.sum(((x - MEAN) @ PRECISION) * (x - MEAN), axis=-1)


# A scale that is not the density's own: kernels must be right with any.
FACTOR = metropolis.Factor(jnp.array([[0.8, 0.0], [0.9, 1.1]]))


def dense(log_prob):
  return metropolis.hmc(log_prob, 0.5, 3, FACTOR if log_prob is gaussian else metropolis.Factor(jnp.eye(1)))


def mixed(log_prob):
  """Each chain of a step size of its own, in one place of the program."""

  def kernel(key, at):
    step_key, key = jax.random.split(key)
    steps = metropolis.mixed_steps(step_key, len(at.x), jnp.asarray(0.8))
    x, acceptance = metropolis.hmc_move(key, at.x, log_prob, steps, 3)
    return metropolis.Move(metropolis.point(log_prob, x), acceptance, jnp.zeros(len(x), bool))

  return kernel


KERNELS = {
    "mala": lambda log_prob: metropolis.mala(log_prob, 0.25),
    "hmc": lambda log_prob: metropolis.hmc(log_prob, 0.6, 3),
    "dense": dense,
    "mixed": mixed,
}


@pytest.mark.fast_cases("hmc")
@pytest.mark.parametrize("name", KERNELS)
def test_moments_of_a_correlated_gaussian_are_recovered(name):
  num = 10_000
  moved = jax.jit(lambda x: metropolis.walk(KEY, x, gaussian, KERNELS[name](gaussian), 60))(jnp.zeros((num, 2)))
  x = np.asarray(moved.x, np.float64)
  np.testing.assert_allclose(x.mean(axis=0), MEAN, atol=4.5 * np.sqrt(2.0 / num))
  np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=4.5 * 2.0 * np.sqrt(2.0 / num))
  assert 0.5 < np.mean(moved.acceptance) < 0.99 and not np.any(moved.divergent)
  assert moved.trace.shape == (num, 60)
  np.testing.assert_allclose(moved.trace[:, -1], gaussian(moved.x), rtol=1e-4, atol=1e-4)


@pytest.mark.fast_cases("dense")
@pytest.mark.parametrize("name", KERNELS)
def test_flows_between_any_two_places_are_equal(name):
  """Detailed balance of a skewed density on a line, from exact draws."""
  num = 200_000

  def log_prob(x):  # of log y for y of a gamma distribution of shape 2
    return jnp.sum(2.0 * x - jnp.exp(x), axis=-1)

  start = jnp.log(jax.random.gamma(jax.random.key(1), 2.0, (num, 1)))
  moved = jax.jit(lambda x: KERNELS[name](log_prob)(KEY, metropolis.point(log_prob, x)))(start)
  edges = [-0.6, 0.0, 0.4, 0.8, 1.2]
  before, after = np.digitize(np.asarray(start)[:, 0], edges), np.digitize(np.asarray(moved.at.x)[:, 0], edges)
  flow = np.zeros((6, 6))
  np.add.at(flow, (before, after), 1.0)
  assert np.all(np.abs(flow - flow.T) <= 4.5 * np.sqrt(flow + flow.T + 1.0))
  # A proposal is taken as often as it says.
  taken = np.asarray(moved.at.x != start)[:, 0]
  assert abs(taken.mean() - float(moved.acceptance.mean())) < 4.5 * 0.5 / np.sqrt(num)


@pytest.mark.slow
def test_mala_proposes_a_langevin_step_and_decides_by_both_proposals():
  size, scale = 0.1, jnp.array([1.0, 0.5])
  x = jax.random.normal(jax.random.key(2), (50, 2))
  momentum_key, _ = jax.random.split(KEY)
  there = langevin.step(momentum_key, x, gaussian, size, scale=scale)
  moved = metropolis.mala(gaussian, size, scale)(KEY, metropolis.point(gaussian, x))
  accepted = np.any(np.asarray(moved.at.x != x), axis=1)
  np.testing.assert_allclose(moved.at.x[accepted], there[accepted], rtol=1e-4, atol=1e-5)

  def log_proposal(a, b):
    mean = a + size * scale**2 * langevin.value_and_gradient(gaussian, a)[1]
    return jnp.sum(jax.scipy.stats.norm.logpdf(b, mean, jnp.sqrt(2.0 * size) * scale), axis=-1)

  log_ratio = gaussian(there) - gaussian(x) + log_proposal(there, x) - log_proposal(x, there)
  np.testing.assert_allclose(moved.acceptance, jnp.exp(jnp.minimum(log_ratio, 0.0)), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_proposals_that_are_not_finite_are_rejected_and_told_and_lost_chains_stay_lost():
  def walled(x):
    return jnp.where(x[:, 0] > 0.0, jnp.nan, 0.0) - 0.5 * jnp.sum(jnp.square(x), axis=-1)

  start = jnp.concatenate([jnp.full((500, 1), -0.1), jnp.full((1, 1), jnp.nan)])
  moved = jax.jit(lambda x: metropolis.walk(KEY, x, walled, metropolis.hmc(walled, 0.5, 1), 5))(start)
  assert np.all(moved.x[:500] < 0.0) and np.mean(moved.divergent[:500]) > 0.5
  assert np.isnan(moved.x[500, 0]) and moved.acceptance[500] == 0.0


@pytest.mark.slow
def test_a_move_from_where_no_gradient_is_known_is_the_kernel_s():
  x = jax.random.normal(jax.random.key(3), (200, 2))
  for scale in (jnp.array([1.0, 0.5]), FACTOR):
    moved = metropolis.hmc(gaussian, 0.7, 3, scale)(KEY, metropolis.point(gaussian, x))
    there, acceptance = metropolis.hmc_move(KEY, x, gaussian, 0.7, 3, scale)
    np.testing.assert_allclose(there, moved.at.x, atol=1e-5)
    np.testing.assert_allclose(acceptance, moved.acceptance, atol=1e-5)


@pytest.mark.slow
def test_a_factor_is_a_mass_matrix():
  """Of a Gaussian's own factor a path of pi / 2 is a fresh draw, however correlated it is."""
  covariance = 0.999 * np.ones((10, 10)) + 0.001 * np.eye(10)
  factor, precision = np.linalg.cholesky(covariance), jnp.asarray(np.linalg.inv(covariance), jnp.float32)
  start = jnp.zeros((4000, 10))
  x, acceptance = metropolis.hmc_move(KEY, start, lambda x: -0.5 * jnp.sum((x @ precision) * x, axis=1), np.pi / 16, 8,
                                      metropolis.Factor(jnp.asarray(factor, jnp.float32)))
  assert np.mean(acceptance) > 0.95
  of_axes = np.linalg.solve(factor, np.asarray(x, np.float64).T)
  np.testing.assert_allclose(np.cov(of_axes), np.eye(10), atol=0.12)


@pytest.mark.slow
def test_what_has_no_scale_stays():
  kernel = metropolis.hmc(gaussian, 0.3, 2, jnp.array([0.0, 1.0]))
  moved = kernel(KEY, metropolis.point(gaussian, jnp.ones((20, 2)))).at
  assert np.all(moved.x[:, 0] == 1.0) and np.any(moved.x[:, 1] != 1.0)
  still = metropolis.Factor(jnp.array([[0.0, 0.0], [0.5, 1.0]]))
  x, _ = metropolis.hmc_move(KEY, jnp.ones((20, 2)), gaussian, 0.3, 2, still)
  assert np.all(x[:, 0] == 1.0) and np.any(x[:, 1] != 1.0)
