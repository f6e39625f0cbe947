"""Linear-Gaussian models are Gaussians: every number has a closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers.enumeration import Batches, log_probs

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, SpecError
from gdm.latent.factor_analysis import FactorAnalysis
from gdm.latent.linear_gaussian import covariance_of
from gdm.latent.ppca import PPCA

KEY = jax.random.key(0)
SPEC = DataSpec((2, 3), None)
BOTH = pytest.mark.parametrize("kind", [PPCA, FactorAnalysis])


def correlated(num, seed=0):
  """Correlated reals of unlike scales, far from zero: [num, 2, 3]."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num, 2)) @ np.random.default_rng(5).normal(size=(2, 6)) + 0.4 * rng.normal(size=(num, 6))
  return (x * [1, 2, 0.5, 1, 3, 1] + 7).reshape(num, 2, 3).astype(np.float32)


@functools.cache
def solved(kind, latent_dims=2):
  model = kind(SPEC, latent_dims)
  return model, *model.solve(KEY, Batches(correlated(800), size=300))


def moments(params):
  """Mean and covariance of x, float64."""
  mean, loadings, variance = (np.asarray(params["model"][name], np.float64)
                              for name in ("mean", "loadings", "variance"))
  return mean, loadings @ loadings.T + np.diag(variance)


@BOTH
def test_the_density_is_the_gaussian_of_the_implied_covariance(kind):
  model, params, carry = solved(kind)
  x = correlated(200, seed=1)
  truth = scipy.stats.multivariate_normal(*moments(params)).logpdf(x.reshape(-1, 6))
  np.testing.assert_allclose(log_probs(model, params, carry, x), truth, rtol=1e-4, atol=1e-4)


def test_densities_keep_their_digits_where_noise_is_small():
  rng = np.random.default_rng(0)
  loadings, variance = rng.normal(size=(6, 2)), np.full(6, 1e-6)
  params = {"model": {"mean": jnp.zeros(6), "loadings": jnp.asarray(loadings, jnp.float32),
                      "variance": jnp.asarray(variance, jnp.float32)}}
  x = np.float32(rng.normal(size=(50, 2)) @ loadings.T + 1e-3 * rng.normal(size=(50, 6)))
  truth = scipy.stats.multivariate_normal(*moments(params)).logpdf(x)
  np.testing.assert_allclose(log_probs(PPCA(SPEC), params, {}, x.reshape(-1, 2, 3)), truth, atol=0.05)


def test_with_one_latent_less_than_dimensions_it_is_the_gaussian_of_the_data():
  _, params, _ = solved(PPCA, 5)
  x = correlated(800).reshape(-1, 6).astype(np.float64)
  mean, covariance = moments(params)
  np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(covariance, np.cov(x.T, bias=True), atol=1e-5)


@BOTH
def test_encoding_is_the_linear_formula_and_decoding_its_way_back(kind):
  model, params, carry = solved(kind)
  mean, covariance = moments(params)
  x, loadings = correlated(20, seed=2), np.asarray(params["model"]["loadings"], np.float64)
  z = model.encode(params, carry, {"x": x}, KEY)
  np.testing.assert_allclose(z, (x.reshape(-1, 6) - mean) @ np.linalg.solve(covariance, loadings), atol=1e-4)
  made = model.decode(params, carry, z, KEY)
  np.testing.assert_allclose(made.reshape(-1, 6), mean + z @ loadings.T, rtol=1e-4)
  assert made.shape == x.shape


@BOTH
@pytest.mark.parametrize("known", [[1, 0, 1, 1, 0, 0], [0] * 6, [1] * 6])
def test_the_conditional_of_any_region_is_that_of_the_joint_gaussian(kind, known):
  model, params, _ = solved(kind)
  mean, covariance = moments(params)
  known = np.array(known, bool)
  x = correlated(3, seed=3)
  made = model.conditional(params, x, known.reshape(2, 3))
  u, k = ~known, known
  gain = covariance[np.ix_(u, k)] @ np.linalg.inv(covariance[np.ix_(k, k)])
  flat = x.reshape(3, 6)
  expected = flat.astype(np.float64)
  expected[:, u] = mean[u] + (flat[:, k] - mean[k]) @ gain.T
  np.testing.assert_allclose(made.mean, expected, rtol=1e-4, atol=1e-4)
  spread = np.zeros((6, 6))
  spread[np.ix_(u, u)] = covariance[np.ix_(u, u)] - gain @ covariance[np.ix_(k, u)]
  np.testing.assert_allclose(made.covariance, spread, atol=1e-4)


@BOTH
def test_completions_and_samples_have_the_moments_of_their_gaussians(kind):
  model, params, carry = solved(kind)
  known = np.array([[1, 0, 1], [1, 0, 0]], bool)
  num = 20_000
  x = np.broadcast_to(correlated(1, seed=4), (num, 2, 3))
  drawn = np.asarray(model.complete(params, carry, KEY, x, known).x)
  np.testing.assert_array_equal(drawn[:, known], x[:, known])
  expected = model.conditional(params, x[:1], known)
  for points, (mean, covariance) in (
      (drawn, (expected.mean[0], expected.covariance)),
      (np.asarray(model.sample(params, carry, KEY, num).x), moments(params)),
      (np.asarray(model.sample(params, carry, KEY, num, temperature=0.25).x),
       (moments(params)[0], 0.25 * moments(params)[1]))):
    scale, points = np.sqrt(np.diagonal(covariance)), points.astype(np.float64)
    np.testing.assert_array_less(np.abs(points.reshape(-1, 6).mean(axis=0) - mean), 5 * scale / num**0.5 + 1e-4)
    np.testing.assert_allclose(np.cov(points.reshape(-1, 6).T), covariance, atol=0.05 * scale.max()**2)


def test_the_mean_is_found_far_from_zero_and_padding_is_left_out():
  x = correlated(90) + np.float32(1e4)
  batches = [{"x": x, "mask": np.arange(90) < 60}]
  found = covariance_of(SPEC, batches)
  kept = x[:60].reshape(60, 6).astype(np.float64)
  assert found.num_examples == 60
  np.testing.assert_allclose(found.mean, kept.mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(found.covariance, np.cov(kept.T, bias=True), rtol=1e-9)


@BOTH
def test_constant_and_equal_dimensions_stay_finite(kind):
  x = correlated(100)
  x[:, 0, 0], x[:, 0, 1] = 5.0, x[:, 1, 1]
  model = kind(SPEC, 3)
  params, carry = model.solve(KEY, Batches(x))
  assert np.isfinite(log_probs(model, params, carry, x)).all()


@BOTH
@pytest.mark.parametrize("spec, fields, error, words", [
    (SPEC, {"latent_dims": 6}, ConfigError, "latent_dims is 6, but the data has 6 dimensions; it must be at most 5"),
    (DataSpec((1,), None), {"latent_dims": 1}, SpecError, "the data has one dimension; choose independent"),
    (SPEC, {"latent_dims": 0}, ConfigError, "latent_dims is 0; it must be at least 1"),
    (SPEC, {"variance_floor": 0.0}, ConfigError, r"variance_floor is 0.0; it must be in \(0, 1\)"),
    (DataSpec((6,), 2), {}, SpecError, "continuous"),
])
def test_what_it_cannot_be_is_refused(kind, spec, fields, error, words):
  with pytest.raises(error, match=words):
    kind(spec, **fields)


@BOTH
def test_bad_data_and_bad_latents_are_refused(kind):
  model, params, carry = solved(kind)
  with pytest.raises(DataError, match="no batch to fit to"):
    model.solve(KEY, [])
  with pytest.raises(DataError, match=r"index \[1, 0, 2\] is nan"):
    bad = correlated(3)
    bad[1, 0, 2] = np.nan
    model.solve(KEY, [{"x": bad}])
  with pytest.raises(SpecError, match=r"latent has shape \(4, 3\); it must be \(batch, 2\)"):
    model.decode(params, carry, jnp.zeros((4, 3)), KEY)
  with pytest.raises(SpecError, match="condition must be None"):
    model.sample(params, carry, KEY, 2, jnp.zeros(2, jnp.int32))
  assert np.isnan(log_probs(model, params, carry, np.full((1, 2, 3), np.inf, np.float32))).all()
