"""MADE: its masks, its mixture over orderings, and its number of parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import log_probs, states_of

from gdm.autoregressive.vectors.fvsbn import FVSBN
from gdm.autoregressive.vectors.made import MADE, MaskedMLP
from gdm.dataspec import DataSpec

SPEC = DataSpec((6,), 2)
KEY = jax.random.key(0)


def test_counts_unmasked_connections():
  # One hidden unit per degree 0 to 4: unit k reads k + 1 inputs and feeds the 5 - k outputs after them.
  model = MADE(SPEC, network=MaskedMLP(hidden=(5,)))
  assert model.num_parameters == sum(k + 1 for k in range(5)) + 5 + sum(5 - k for k in range(5)) + 6
  direct = dataclasses.replace(model, network=model.network.clone(direct=True))
  assert direct.num_parameters == model.num_parameters + 15


@pytest.mark.slow
def test_a_mixture_over_orderings_is_the_mean_of_its_components_probabilities():
  model = MADE(SPEC, network=MaskedMLP(hidden=(9,), activation="tanh"), num_orderings=5)
  params, carry = jax.jit(model.init)(KEY, {"x": jnp.asarray(states_of(SPEC))})
  params = jax.tree.map(lambda leaf: leaf * 3 + 0.2, params)
  x = jnp.asarray(states_of(SPEC))
  joint = jnp.stack([model.variable_log_probs(params, x, c).sum(axis=1) for c in range(5)])
  assert np.std(joint, axis=0).min() > 1e-3  # the components differ
  np.testing.assert_allclose(np.exp(log_probs(model, params, carry, x)), np.exp(joint).mean(axis=0), rtol=1e-4)


@pytest.mark.slow
def test_training_draws_every_component_as_often():
  model = MADE(SPEC, network=MaskedMLP(hidden=(9,)), num_orderings=4)
  params, carry = jax.jit(model.init)(KEY, {"x": jnp.asarray(states_of(SPEC))})
  params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), params)
  batch = {"x": jnp.asarray(states_of(SPEC)[5:9])}
  of_component = [-float(model.variable_log_probs(params, batch["x"], c).sum(axis=1).mean()) for c in range(4)]
  losses = jax.jit(jax.vmap(lambda key: model.loss(params, carry, batch, key, jnp.asarray(0)).loss))(
      jax.random.split(KEY, 1000))
  nearest = np.argmin(np.abs(np.asarray(losses)[:, None] - of_component), axis=1)
  np.testing.assert_allclose(np.asarray(losses), np.asarray(of_component)[nearest], rtol=1e-5)
  assert np.bincount(nearest, minlength=4).min() > 190


@pytest.mark.slow
def test_samples_of_a_mixture_come_from_all_components():
  # Near zero temperature a component has one sample, its greedy path.
  model = MADE(SPEC, network=MaskedMLP(hidden=(9,)), num_orderings=3)
  params, carry = jax.jit(model.init)(KEY, {"x": jnp.asarray(states_of(SPEC))})
  params = jax.tree.map(lambda leaf: 4 * leaf + jax.random.normal(jax.random.key(1), leaf.shape), params)
  greedy = np.asarray(model.sample(params, carry, jax.random.key(2), 200, temperature=1e-6).x)
  assert 1 < len(np.unique(greedy, axis=0)) <= 3


def test_orderings_are_reproducible_and_the_first_natural_one_is_the_datas_own():
  orders = MADE(SPEC, num_orderings=3).components.orders
  np.testing.assert_array_equal(orders[0], np.arange(6))
  np.testing.assert_array_equal(orders, MADE(SPEC, network=MaskedMLP(hidden=(7,)), num_orderings=3).components.orders)
  assert not np.array_equal(orders, MADE(SPEC, num_orderings=3, ordering_seed=1).components.orders)
  np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(6), (3, 1)))


@pytest.mark.parametrize("degrees", ["even", "random"])
def test_further_masks_have_degrees_of_their_own(degrees):
  model = MADE(DataSpec((20,), 2), network=MaskedMLP(hidden=(30, 30)), num_masks=4, degrees=degrees)
  _, *hidden = model.components.degrees
  for layer in hidden:
    assert layer.min() >= 0 and layer.max() <= 18
    assert len(np.unique(layer, axis=0)) == 4


@pytest.mark.slow
def test_tiles_of_a_wide_model_leave_nothing_out():
  n = 300  # wide enough for several tiles
  network = MaskedMLP(hidden=(600, 400), direct=True, activation="tanh")
  model = MADE(DataSpec((n,), 2), network=network, ordering="random")
  params, _ = jax.jit(model.init)(KEY, {"x": jnp.zeros((2, n), jnp.int32)})
  assert all(len(params["model"][name]) > 1 for name in ("layers_0", "layers_1", "output", "direct"))
  stored = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert model.num_parameters < stored < 1.45 * model.num_parameters
  inputs = jax.random.normal(KEY, (n,))
  jacobian = jax.jit(jax.jacrev(lambda inputs: model.outputs(params["model"], inputs[None])[0]))(inputs)
  np.testing.assert_array_equal(np.asarray(jacobian) != 0, np.tri(n, k=-1, dtype=bool))


@pytest.mark.slow
def test_one_variable_is_its_marginal():
  model = MADE(DataSpec((1,), 4), network=MaskedMLP(hidden=(3,)))
  x = jnp.asarray([[0], [1], [1], [3]])
  params, carry = model.init(KEY, {"x": x})
  np.testing.assert_allclose(np.exp(log_probs(model, params, carry, np.arange(4)[:, None])),
                             [2 / 8, 3 / 8, 1 / 8, 2 / 8], rtol=1e-5)


def test_direct_connections_alone_are_an_fvsbn():
  made = MADE(SPEC, network=MaskedMLP(hidden=(4,), direct=True))
  x = jnp.asarray(states_of(SPEC))
  params, carry = jax.jit(made.init)(KEY, {"x": x})
  model = {**params["model"], "output": jax.tree.map(jnp.zeros_like, params["model"]["output"])}
  kernel = np.zeros((6, 6), np.float32)
  kernel[:5] = np.triu(model["direct"]["kernel_0"], 1)
  fvsbn = FVSBN(SPEC)
  packed = fvsbn.init_parameters(KEY)["kernel"]
  units = jax.vmap(lambda unit: fvsbn.kernel({"kernel": unit}))(jnp.eye(packed.size))
  packed = jnp.einsum("kij,ij->k", units, kernel)
  expected = log_probs(fvsbn, {"model": {"kernel": packed, "bias": model["bias"]}}, {}, x)
  np.testing.assert_allclose(log_probs(made, {"model": model}, carry, x), expected, rtol=1e-5)
