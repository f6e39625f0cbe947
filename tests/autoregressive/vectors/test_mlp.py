"""Untied networks: their number of parameters, and that they share nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from gdm.autoregressive.vectors.mlp import UntiedMLP
from gdm.dataspec import DataSpec


def test_counts_the_parameters_of_a_network_per_variable():
  n, hidden = 7, (5, 3)
  model = UntiedMLP(DataSpec((n,), 2), hidden=hidden)
  each = [i * hidden[0] + hidden[0] + hidden[0] * hidden[1] + hidden[1] + hidden[1] + 1 for i in range(n)]
  assert model.num_parameters == sum(each)


def test_tiles_of_a_wide_model_leave_nothing_out():
  n = 300  # wide enough for several tiles
  model = UntiedMLP(DataSpec((n,), 2), hidden=(4,), activation="tanh")
  params, _ = jax.jit(model.init)(jax.random.key(0), {"x": jnp.zeros((2, n), jnp.int32)})
  assert len(params["model"]["first"]) > 1
  assert model.num_parameters == sum(i * 4 + 4 + 4 + 1 for i in range(n))
  inputs = jax.random.normal(jax.random.key(1), (n,))
  jacobian = jax.jit(jax.jacrev(lambda inputs: model.outputs(params["model"], inputs[None])[0]))(inputs)
  np.testing.assert_array_equal(np.asarray(jacobian) != 0, np.tri(n, k=-1, dtype=bool))
