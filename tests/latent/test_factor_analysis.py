"""Factor analysis is a Gaussian of its covariance, as likely as EM can make it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.decomposition
from helpers.enumeration import Batches, log_probs

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.latent.factor_analysis import FactorAnalysis
from gdm.latent.ppca import PPCA

KEY = jax.random.key(0)
SPEC = DataSpec((6,), None)


def factors(num, seed=0):
  """Two factors and noise of unlike deviations in each dimension."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num, 2)) @ np.random.default_rng(5).normal(size=(2, 6))
  return np.float32(x + rng.normal(size=(num, 6)) * [0.2, 1, 0.5, 2, 0.3, 1])


def test_the_likelihood_is_at_least_sklearns():
  x = factors(600)
  model = FactorAnalysis(SPEC, 2, tolerance=1e-9)
  params, carry = model.solve(KEY, Batches(x, size=250))
  theirs = sklearn.decomposition.FactorAnalysis(2, tol=1e-8, max_iter=5000, svd_method="lapack").fit(x)
  ours = log_probs(model, params, carry, x).mean()
  assert ours > theirs.score(x) - 1e-5
  np.testing.assert_allclose(params["model"]["variance"], theirs.noise_variance_, rtol=0.01)
  fresh = factors(300, seed=1)
  np.testing.assert_allclose(log_probs(model, params, carry, fresh), theirs.score_samples(fresh), atol=0.02)


def test_the_likelihood_never_falls_and_is_the_one_reported():
  x, rows = factors(300), []
  model = FactorAnalysis(SPEC, 2, tolerance=0.0, num_iterations=200)
  params, carry = model.solve(KEY, Batches(x), lambda iteration, metrics: rows.append((iteration, metrics["nll"])))
  assert [iteration for iteration, _ in rows] == list(range(len(rows)))
  nll = np.array([value for _, value in rows])
  assert np.all(np.diff(nll) < 1e-12)
  np.testing.assert_allclose(-nll[-1], log_probs(model, params, carry, x).mean(), atol=1e-4)


def test_the_step_of_the_uniquenesses_is_that_of_em():
  """The expected log-likelihood of x and z is stationary there: its formula, with z's moments, for one step."""
  x = factors(300).astype(np.float64)
  model = FactorAnalysis(SPEC, 2)
  covariance = np.cov(x.T, bias=True)
  unique = 0.5 * np.diagonal(covariance)
  loadings, _ = model._loadings(covariance, unique)
  gain = np.linalg.solve(loadings @ loadings.T + np.diag(unique), loadings).T
  second = np.eye(2) - gain @ loadings + gain @ covariance @ gain.T
  by_em = covariance @ gain.T @ np.linalg.inv(second)
  np.testing.assert_allclose(by_em, loadings, atol=1e-10)
  np.testing.assert_allclose(np.diagonal(covariance - by_em @ gain @ covariance),
                             np.diagonal(covariance) - np.sum(loadings**2, axis=1), atol=1e-10)


def test_scales_of_dimensions_change_nothing_but_the_unit():
  """Unlike principal components, factors do not depend on units: the density moves by the Jacobian alone."""
  x, scale = factors(300), np.float32([1, 10, 0.1, 3, 1, 0.5])
  model = FactorAnalysis(SPEC, 2, tolerance=1e-8)
  plain, scaled = (model.solve(KEY, Batches(each)) for each in (x, x * scale))
  np.testing.assert_allclose(log_probs(model, *scaled, x * scale), log_probs(model, *plain, x) - np.log(scale).sum(),
                             atol=2e-3)
  ppca = PPCA(SPEC, 2)
  assert log_probs(model, *plain, x).mean() > log_probs(ppca, *ppca.solve(KEY, Batches(x)), x).mean()


def test_uniquenesses_stop_at_the_floor():
  x = factors(300)
  x[:, 1] = x[:, 0]  # a Heywood case
  params, _ = FactorAnalysis(SPEC, 2, variance_floor=1e-3).solve(KEY, Batches(x))
  share = np.asarray(params["model"]["variance"]) / x.var(axis=0)
  assert share.min() == pytest.approx(1e-3, rel=1e-3)
  assert jnp.all(jnp.isfinite(params["model"]["loadings"]))


def test_iterations_below_one_are_refused():
  with pytest.raises(ConfigError, match="num_iterations is 0; it must be at least 1"):
    FactorAnalysis(SPEC, 2, num_iterations=0)
