"""Densities that are solved for know no unit: data in another unit have the same density, in that unit."""

import jax
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.runs.registry import build_model

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.7]])
X[:30] += 3.0
Y = (np.arange(60) < 30).astype(np.int32)
EM = {"num_components": 2, "num_restarts": 1, "num_iterations": 5}
MODELS = {"independent": {}, "gaussian_mixture": EM, "diag": {"name": "gaussian_mixture", "covariance": "diag", **EM},
          "ppca": {"latent_dims": 1}, "factor_analysis": {"latent_dims": 1}, "naive_bayes": {}}


def nats(name, x):
  spec = DataSpec((x.shape[1],), None, num_classes=2 if name == "naive_bayes" else None)
  model = build_model({"name": name, **MODELS[name]}, spec)
  batch = {"x": x.astype(np.float32), **({"y": Y[:len(x)]} if spec.num_classes else {})}
  return np.asarray(model.log_likelihood(*model.solve(KEY, [batch]), batch, KEY).nats, np.float64)


@pytest.mark.fast_cases("independent", "diag", "ppca", "factor_analysis", "naive_bayes")
@pytest.mark.parametrize("name", MODELS)
def test_data_in_another_unit_have_the_same_density(name):
  """A floor of 1e-6 squared units lost 10 nats per example of micrometres in metres."""
  expected = nats(name, X)
  for unit in (1e-7, 1e5):
    np.testing.assert_allclose(nats(name, unit * X) + 3.0 * np.log(unit), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.fast_cases("0.1-independent", "0.1-diag", "0.1-ppca", "0.1-factor_analysis")
@pytest.mark.parametrize("name", [name for name in MODELS if name != "naive_bayes"])
@pytest.mark.parametrize("constant", [0.1, 1e6])
def test_equal_values_have_a_density_without_bound_and_a_finite_score(name, constant):
  x = X.copy()
  x[:, 1] = constant
  assert np.all(np.isfinite(nats(name, x)))
  assert np.all(np.isfinite(nats(name, np.full((4, 3), constant))))
