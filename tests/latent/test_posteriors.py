"""Posteriors are the densities they say, and their divergences those of their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gdm.errors import ConfigError
from gdm.latent.posteriors import Diagonal, Full, InverseAutoregressive, moments, normal_log_prob

DIMS = 3
POSTERIORS = {"diagonal": Diagonal(), "full": Full(), "iaf": InverseAutoregressive(1, (6,), 2)}
DENSE = ("diagonal", "full")


def made(name, batch=1):
  posterior = POSTERIORS[name]
  own = posterior.init(jax.random.key(0), DIMS)
  leaves, tree = jax.tree.flatten(own)
  own = jax.tree.unflatten(tree, [leaf + 0.3 * jax.random.normal(jax.random.key(i), leaf.shape)
                                  for i, leaf in enumerate(leaves)])
  return posterior, own, 0.7 * jax.random.normal(jax.random.key(1), (batch, posterior.num_features(DIMS)))


@pytest.mark.fast_cases("diagonal")
@pytest.mark.parametrize("name", POSTERIORS)
def test_log_q_is_that_of_the_noise_less_the_volume(name):
  posterior, own, features = made(name)
  noise = jax.random.normal(jax.random.key(2), (1, DIMS))
  z, log_q = jax.jit(posterior.draw)(own, features, noise)
  jacobian = jax.jit(jax.jacfwd(lambda u: posterior.draw(own, features, u[None])[0][0]))(noise[0])
  expected = normal_log_prob(noise)[0] - np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
  np.testing.assert_allclose(log_q[0], expected, rtol=1e-4)
  np.testing.assert_allclose(posterior.centre(own, features),
                             posterior.draw(own, features, jnp.zeros((1, DIMS)))[0], rtol=1e-5)
  assert z.shape == (1, DIMS)


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_posterior_knows_its_density_and_divergence(name):
  posterior, own, features = made(name)
  many = jnp.repeat(features, 40_000, axis=0)
  noise = jax.random.normal(jax.random.key(3), (40_000, DIMS))
  z, log_q = posterior.draw(own, many, noise)
  np.testing.assert_allclose(posterior.noise_of(many[:50], z[:50]), noise[:50], atol=1e-4)
  np.testing.assert_allclose(posterior.log_prob(many[:50], z[:50]), log_q[:50], rtol=1e-4, atol=1e-4)
  gaussian = scipy.stats.multivariate_normal(np.mean(z, axis=0), np.cov(np.asarray(z).T))
  np.testing.assert_allclose(log_q[:5], gaussian.logpdf(z[:5]), atol=0.1)
  difference = np.asarray(log_q - normal_log_prob(z))
  error = difference.std() / len(difference) ** 0.5
  assert abs(difference.mean() - float(jnp.sum(posterior.kl_to_normal(features)))) < 4 * error


def test_a_standard_normal_has_no_divergence():
  for name in DENSE:
    features = jnp.zeros((2, POSTERIORS[name].num_features(DIMS)))
    np.testing.assert_allclose(POSTERIORS[name].kl_to_normal(features), 0.0, atol=2e-3)  # the floor of the log-scale


def test_scales_have_a_floor():
  _, log_scale = moments(jnp.asarray([[0.0, -100.0]]))
  assert log_scale[0, 0] == -8.0


def test_sizes_are_checked():
  with pytest.raises(ConfigError, match=r"posterior\.num_layers is 0"):
    InverseAutoregressive(0)
