"""Posteriors of examples made of normals, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np

from gdm.inference import latent_posterior

MATRIX = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -0.8]], np.float32)
NOISE = 0.3


def by_measurements(y, noise=NOISE):
  """The log-likelihood of x = z by A x + noise, each row its own measurement."""
  y = jnp.asarray(y, jnp.float32)
  return lambda x, rows: -0.5 * jnp.sum(jnp.square((y[rows] - x @ MATRIX.T) / noise), axis=1)


def test_linear_measurements_of_normals_give_the_closed_form():
  y = np.array([[1.0, -0.5], [-2.0, 1.5]])
  call = jax.jit(lambda key: latent_posterior.draw(key, lambda z, rows: z, by_measurements(y), 3, 2, 4000))
  found = call(jax.random.key(0))
  gain = MATRIX.T @ np.linalg.inv(MATRIX @ MATRIX.T + NOISE**2 * np.eye(2))
  assert found.x.shape == (4000, 2, 3)
  for i in range(2):
    np.testing.assert_allclose(found.x[:, i].mean(axis=0), gain @ y[i], atol=0.06)
    np.testing.assert_allclose(np.cov(found.x[:, i].T), np.eye(3) - gain @ MATRIX, atol=0.06)
  assert found.info["least_effective_share"].shape == (2,) and 0.1 < found.info["least_acceptance"] < 1.0


def test_functions_that_round_have_the_posterior_of_whole_numbers():
  """x = 0, 1 or 2; 2 cannot be, and the odds of 1 are three times the prior's."""
  def made(z, rows):
    return (z > 0.0).astype(jnp.int32) + (z > 1.0)

  def log_likelihood(x, rows):
    return jnp.where(x[:, 0] == 2, jnp.where(rows == 0, jnp.nan, -jnp.inf), jnp.where(x[:, 0] == 1, jnp.log(3.0), 0.0))

  found = jax.jit(lambda key: latent_posterior.draw(key, made, log_likelihood, 1, 2, 4000))(jax.random.key(1))
  one = 3.0 * (0.8413 - 0.5)
  assert found.x.max() == 1
  np.testing.assert_allclose(found.x.mean(axis=(0, 2)), one / (one + 0.5), atol=0.04)
  assert 0.05 < found.info["undefined"] < 0.11  # half of the mass of x = 2, where one of the two likelihoods is NaN


def test_a_likelihood_of_nothing_leaves_the_prior():
  found = jax.jit(lambda key: latent_posterior.draw(
      key, lambda z, rows: z, lambda x, rows: jnp.zeros(len(x)), 2, 1, 4000))(jax.random.key(2))
  np.testing.assert_allclose(np.cov(found.x[:, 0].T), np.eye(2), atol=0.07)
  np.testing.assert_allclose(found.info["least_effective_share"], 1.0, rtol=1e-5)
