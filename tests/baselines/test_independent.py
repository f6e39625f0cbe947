import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers.enumeration import Batches, log_probs

from gdm.baselines.independent import Independent
from gdm.dataspec import DataSpec
from gdm.errors import SpecError


def test_discrete_probabilities_are_smoothed_frequencies():
  x = np.random.default_rng(0).integers(3, size=(50, 2)).astype(np.uint8)
  model = Independent(DataSpec((2,), 3), alpha=0.5)
  params, _ = model.solve(jax.random.key(0), Batches(x, size=20))
  frequencies = np.stack([np.bincount(column, minlength=3) for column in x.T])
  np.testing.assert_allclose(np.exp(params["model"]["logits"]), (frequencies + 0.5) / (50 + 1.5), rtol=1e-5)


def test_gaussian_is_that_of_the_moments_even_far_from_zero():
  x = (1000.0 + np.random.default_rng(0).normal(size=(3000, 2, 2)) * [[0.1, 1.0], [2.0, 5.0]]).astype(np.float32)
  model = Independent(DataSpec((2, 2), None))
  params, carry = model.solve(jax.random.key(0), Batches(x, size=700))
  wide = x.astype(np.float64)
  expected = scipy.stats.norm.logpdf(wide, wide.mean(0), wide.std(0)).sum(axis=(1, 2))
  # float32 resolves 1000 to 6e-5, a thousandth of the smallest deviation.
  np.testing.assert_allclose(log_probs(model, params, carry, x[:100]), expected[:100], atol=2e-2)
  np.testing.assert_allclose(params["model"]["scale"], wide.std(0).ravel(), rtol=1e-3)


@pytest.mark.slow
def test_gaussian_samples_and_completions():
  x = np.random.default_rng(0).normal([1.0, -2.0], [0.5, 3.0], size=(5000, 2)).astype(np.float32)
  model = Independent(DataSpec((2,), None))
  params, carry = model.solve(jax.random.key(0), Batches(x))
  drawn = np.asarray(model.sample(params, carry, jax.random.key(1), 5000).x)
  for column in range(2):
    assert scipy.stats.ks_2samp(drawn[:, column], x[:, column]).pvalue > 1e-4
  cold = model.sample(params, carry, jax.random.key(1), 5000, temperature=0.25).x
  np.testing.assert_allclose(np.std(cold, axis=0), np.std(drawn, axis=0) / 2, rtol=1e-4)
  done = model.complete(params, carry, jax.random.key(2), jnp.asarray(x[:50]), jnp.array([True, False])).x
  np.testing.assert_array_equal(done[:, 0], x[:50, 0])
  assert not np.any(done[:, 1] == x[:50, 1])


def test_a_constant_dimension_keeps_a_finite_density():
  model = Independent(DataSpec((2,), None))
  params, carry = model.solve(jax.random.key(0), Batches(np.ones((10, 2), np.float32)))
  assert np.isfinite(log_probs(model, params, carry, np.array([[1.0, 1.0], [1.1, 0.9]], np.float32))).all()


def test_structure_of_init_for_continuous_data():
  model = Independent(DataSpec((2,), None))
  start = model.init(jax.random.key(0), {"x": jnp.zeros((1, 2))})
  found = model.solve(jax.random.key(0), Batches(np.ones((10, 2), np.float32)))
  assert jax.tree.map(lambda a: (a.shape, a.dtype), start) == jax.tree.map(lambda a: (a.shape, a.dtype), found)


def test_variance_floor_must_be_positive():
  with pytest.raises(SpecError, match=r"model\.variance_floor is 0"):
    Independent(DataSpec((2,), None), variance_floor=0.0)
