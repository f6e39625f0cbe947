"""NADE: its number of parameters, and the paper's recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from gdm.autoregressive.vectors.nade import NADE
from gdm.dataspec import DataSpec
from gdm.training.state import count_parameters


@pytest.mark.fast_cases("10-6")
@pytest.mark.parametrize(("n", "d"), [(10, 6), (7, 20)])
def test_has_as_many_parameters_as_the_formula(n, d):
  model = NADE(DataSpec((n,), 2), hidden=d)
  params, _ = model.init(jax.random.key(0), {"x": jnp.zeros((2, n), jnp.int32)})
  assert count_parameters(params) == model.num_parameters == 2 * n * d + d + n


@pytest.mark.fast_cases("1-relu", "3-relu")
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("block", [1, 3])
def test_is_the_recursion_of_the_paper(activation, block):
  rng = np.random.default_rng(0)
  n, d = 8, 5
  x = rng.integers(2, size=(9, n))
  params = {"W": rng.normal(size=(n, d)), "V": rng.normal(size=(n, d)), "c": rng.normal(size=d),
            "bias": rng.normal(size=n)}
  apply = {"sigmoid": scipy.special.expit, "relu": lambda a: np.maximum(a, 0)}[activation]
  expected, a = 0.0, np.tile(params["c"], (9, 1))
  for i in range(n):  # equations 2 to 4
    p = scipy.special.expit(apply(a) @ params["V"][i] + params["bias"][i])
    expected = expected + np.log(np.where(x[:, i] == 1, p, 1 - p))
    a = a + np.outer(x[:, i], params["W"][i])
  model = NADE(DataSpec((n,), 2), hidden=d, activation=activation, block=block)
  scored = model.log_likelihood({"model": jax.tree.map(jnp.float32, params)}, {}, {"x": jnp.asarray(x)},
                                jax.random.key(0))
  np.testing.assert_allclose(scored.nats, expected, rtol=1e-4)
