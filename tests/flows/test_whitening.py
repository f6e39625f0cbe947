"""Whitening, by which a flow begins as a shrunken Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from gdm.dataspec import DataSpec
from gdm.flows.bijections.whitening import Whiten, shrunken_covariance
from gdm.flows.maf import MAF
from gdm.flows.spline_coupling import SplineCoupling

KEY = jax.random.key(0)


def correlated(num, dims, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(num, dims)) @ rng.normal(size=(dims, dims)) + 3.0).astype(np.float32)


@pytest.mark.fast_cases("2000-5")
@pytest.mark.parametrize(("num", "dims"), [(10, 30), (40, 5), (2000, 5), (3, 2)])
def test_the_shrinkage_is_ledoit_and_wolfs(num, dims):
  x = correlated(num, dims)
  x = x - x.mean(axis=0)
  np.testing.assert_allclose(shrunken_covariance(jnp.asarray(x)), ledoit_wolf(x, assume_centered=True)[0], rtol=2e-4,
                             atol=1e-4)


@pytest.mark.slow
def test_what_comes_out_is_white():
  x = correlated(5000, 4)
  y = np.asarray(Whiten().init_with_output(KEY, jnp.asarray(x))[0].value)
  np.testing.assert_allclose(np.cov(y.T), np.eye(4), atol=0.02)
  np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-3)


@pytest.mark.fast_cases("SplineCoupling")
@pytest.mark.parametrize("flow", [MAF, SplineCoupling])
def test_a_fresh_flow_is_a_shrunken_gaussian(flow):
  """Units, constants and few examples do it no harm."""
  x = correlated(60, 6) * np.float32([1e-4, 1.0, 1e3, 1.0, 1.0, 1.0])
  x[:, 5] = 0.1
  model = flow(DataSpec((6,), None), whiten=True)
  batch = {"x": jnp.asarray(x)}
  params, carry = jax.jit(model.init)(KEY, batch)
  found = np.asarray(jax.jit(lambda: model.log_likelihood(params, carry, batch, KEY).nats)())
  scale = np.append(x.std(axis=0)[:5], 1.0)
  covariance = ledoit_wolf((x - x.mean(axis=0)) / scale, assume_centered=True)[0] + np.diag([0, 0, 0, 0, 0, 1.0])
  right = multivariate_normal(np.zeros(6), covariance).logpdf((x - x.mean(axis=0)) / scale) - np.log(scale).sum()
  # Splines are the identity within their bounds only, and normalization sees the spread that shrinking leaves.
  assert np.isfinite(found).all() and abs(found.mean() - right.mean()) < 1.0
