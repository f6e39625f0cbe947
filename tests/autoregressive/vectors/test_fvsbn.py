"""FVSBN: its number of parameters, and that it is logistic regression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from gdm.autoregressive.vectors.fvsbn import FVSBN
from gdm.dataspec import DataSpec
from gdm.training.state import count_parameters


@pytest.mark.fast_cases("2", "10")
@pytest.mark.parametrize("n", [1, 2, 9, 10])
def test_stores_as_many_parameters_as_the_formula(n):
  model = FVSBN(DataSpec((n,), 2))
  params, _ = model.init(jax.random.key(0), {"x": jnp.zeros((2, n), jnp.int32)})
  assert count_parameters(params) == model.num_parameters == n * (n + 1) // 2


def test_counts_no_entry_that_a_categorical_variable_cannot_use():
  n, levels = 5, 3
  model = FVSBN(DataSpec((n,), levels))
  assert model.num_parameters == n * (n - 1) // 2 * levels**2 + n * levels


def test_is_a_logistic_regression_of_each_dimension_on_those_before():
  rng = np.random.default_rng(0)
  n = 5
  x = rng.integers(2, size=(7, n))
  weights, bias = rng.normal(size=(n, n)), rng.normal(size=n)
  model = FVSBN(DataSpec((n,), 2))
  packed = np.zeros(n * (n - 1) // 2, np.float32)
  # The vector holds each entry once: find where by setting one at a time.
  for k in range(len(packed)):
    unit = np.eye(len(packed), dtype=np.float32)[k]
    (row,), (column,) = np.nonzero(np.asarray(model.kernel({"kernel": jnp.asarray(unit)})))
    assert row < column
    packed[k] = weights[row, column]
  params = {"model": {"kernel": jnp.asarray(packed), "bias": jnp.asarray(bias, jnp.float32)}}
  p = scipy.special.expit(x @ np.triu(weights, 1) + bias)
  expected = np.log(np.where(x == 1, p, 1 - p)).sum(axis=1)
  scored = model.log_likelihood(params, {}, {"x": jnp.asarray(x)}, jax.random.key(0))
  np.testing.assert_allclose(scored.nats, expected, rtol=1e-5)
