import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.mixture
from helpers.enumeration import Batches, log_probs

from gdm.baselines.gaussian_mixture import GaussianMixture
from gdm.dataspec import DataSpec
from gdm.errors import SpecError

PLANE = DataSpec((2,), None)
KINDS = pytest.mark.parametrize("kind", ["diag", "full"])


def planted(num, seed=0):
  """Three tilted Gaussians in the plane: draws, and the true log-density in nats."""
  rng = np.random.default_rng(seed)
  means = np.array([[0.0, 0.0], [4.0, 1.0], [-3.0, 3.0]])
  factors = np.array([[[1.0, 0.0], [0.8, 0.3]], [[0.5, 0.0], [-0.3, 0.4]], [[0.7, 0.0], [0.0, 1.2]]])
  weights = np.array([0.5, 0.2, 0.3])
  component = rng.choice(3, size=num, p=weights)
  x = means[component] + np.einsum("nij,nj->ni", factors[component], rng.normal(size=(num, 2)))
  density = sum(w * scipy.stats.multivariate_normal(m, f @ f.T).pdf(x)
                for w, m, f in zip(weights, means, factors, strict=True))
  return x.astype(np.float32), np.log(density)


@functools.cache
def solved(kind="full", num=4000, **fields):
  model = GaussianMixture(PLANE, num_components=3, covariance=kind, **fields)
  params, carry = model.solve(jax.random.key(0), Batches(planted(num)[0], size=2000))
  return model, params, carry


def in_sklearn(model, params):
  """scikit-learn's model with our parameters."""
  log_weights, mean, factor = (np.asarray(params["model"][name], np.float64)
                               for name in ("log_weights", "mean", "factor"))
  theirs = sklearn.mixture.GaussianMixture(len(mean), covariance_type=model.covariance)
  theirs.weights_, theirs.means_ = np.exp(log_weights) / np.exp(log_weights).sum(), mean
  theirs.covariances_ = np.square(factor) if model.covariance == "diag" else factor @ factor.swapaxes(1, 2)
  theirs.precisions_cholesky_ = (1 / factor if model.covariance == "diag"
                                 else np.linalg.inv(factor).swapaxes(1, 2))
  return theirs


@pytest.mark.fast_cases("diag")
@KINDS
def test_score_agrees_with_sklearn(kind):
  model, params, carry = solved(kind)
  x, _ = planted(1000, seed=1)
  np.testing.assert_allclose(log_probs(model, params, carry, x), in_sklearn(model, params).score_samples(x), atol=1e-3)


@pytest.mark.slow
def test_recovers_a_known_density():
  model, params, carry = solved()
  x, truth = planted(5000, seed=1)
  gap = truth - log_probs(model, params, carry, x)
  assert abs(gap.mean()) < 0.01  # the divergence from the truth, in nats
  assert np.abs(gap).mean() < 0.05


@pytest.mark.fast_cases("diag")
@KINDS
def test_a_sklearn_fit_from_the_same_parameters_is_no_better(kind):
  model, params, carry = solved(kind, alpha=0.0, tolerance=0.0)
  x, _ = planted(4000)
  theirs = sklearn.mixture.GaussianMixture(
      3, covariance_type=kind, weights_init=np.exp(params["model"]["log_weights"]), tol=1e-6,
      means_init=params["model"]["mean"], max_iter=200, random_state=0).fit(x)
  assert log_probs(model, params, carry, x).mean() > theirs.score(x) - 1e-3


@pytest.mark.fast_cases("full")
@KINDS
def test_samples_have_the_models_moments_and_entropy(kind):
  model, params, carry = solved(kind)
  drawn = np.asarray(model.sample(params, carry, jax.random.key(1), 20_000).x)
  assert drawn.shape == (20_000, 2) and drawn.dtype == np.float32
  x, _ = planted(20_000, seed=2)
  np.testing.assert_allclose(drawn.mean(axis=0), x.mean(axis=0), atol=0.1)
  np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T), atol=0.3)
  theirs, _ = in_sklearn(model, params).sample(20_000)
  ours, expected = (log_probs(model, params, carry, np.float32(points)) for points in (drawn, theirs))
  assert scipy.stats.ks_2samp(ours, expected).pvalue > 1e-4


@pytest.mark.fast_cases("known1-diag", "known1-full", "known2-full")
@KINDS
@pytest.mark.parametrize("known", [[True, False], [False, True], [False, False]])
def test_completions_follow_the_conditional(kind, known):
  """Each draw's value of the conditional distribution function, by integration, must be uniform."""
  model, params, carry = solved(kind)
  point, num = np.array([0.5, 0.5], np.float32), 4000
  drawn = np.asarray(model.complete(params, carry, jax.random.key(2), jnp.tile(point, (num, 1)), jnp.array(known)).x)
  np.testing.assert_array_equal(drawn[:, known], np.tile(point, (num, 1))[:, known])
  free = known.index(False)
  grid = np.linspace(-12, 12, 2001)
  states = np.tile(point, (len(grid), 1))
  states[:, free] = grid
  if any(known):
    density = np.exp(log_probs(model, params, carry, states))
  else:
    other = np.linspace(-12, 12, 201)
    plane = np.stack(np.meshgrid(grid, other, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
    density = np.exp(log_probs(model, params, carry, plane)).reshape(len(grid), -1).sum(axis=1)
  cumulative = np.cumsum(density) / density.sum()
  assert scipy.stats.kstest(np.interp(drawn[:, free], grid, cumulative), "uniform").pvalue > 1e-4


@pytest.mark.fast_cases("diag")
@KINDS
def test_duplicates_and_constant_dimensions_stay_finite(kind):
  x = np.repeat(np.array([[1.0, 5.0], [2.0, 5.0]], np.float32), 20, axis=0)
  model = GaussianMixture(PLANE, num_components=4, covariance=kind)
  params, carry = model.solve(jax.random.key(0), Batches(x))
  assert np.isfinite(log_probs(model, params, carry, np.array([[1.0, 5.0], [7.0, 5.1]], np.float32))).all()


@pytest.mark.fast_cases("full")
@KINDS
def test_variances_stay_above_the_floor(kind):
  x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
  model = GaussianMixture(PLANE, num_components=12, covariance=kind, variance_floor=0.01)
  params, _ = model.solve(jax.random.key(0), Batches(x))
  factor = np.asarray(params["model"]["factor"], np.float64)
  covariance = factor @ factor.swapaxes(1, 2) if kind == "full" else np.square(factor)[:, :, None] * np.eye(2)
  in_units_of_the_data = covariance / np.outer(x.std(axis=0), x.std(axis=0))
  assert np.linalg.eigvalsh(in_units_of_the_data).min() > 0.01 * (1 - 1e-3)


@pytest.mark.fast_cases("full")
@KINDS
def test_structure_of_init(kind):
  model, *found = solved(kind, num=100, num_iterations=2)
  start = jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, 2))})
  assert jax.tree.map(lambda a: (a.shape, a.dtype), tuple(found)) == jax.tree.map(lambda a: (a.shape, a.dtype), start)


def test_bad_fields_are_named():
  with pytest.raises(SpecError, match="did you mean 'full'"):
    GaussianMixture(PLANE, covariance="ful")
  with pytest.raises(SpecError, match=r"model\.variance_floor is 1"):
    GaussianMixture(PLANE, variance_floor=1.0)
  with pytest.raises(SpecError, match="needs continuous data"):
    GaussianMixture(DataSpec((2,), 17))
