"""Conditioners: autoregressive by gradient, the same step by step, and nothing in them idle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdm.errors import ConfigError, SpecError
from gdm.networks.masked_mlp import AutoregressiveMLP
from gdm.networks.mlp import MLP

KEY = jax.random.key(0)
BATCH = 5
# Smooth activations, so that no unit is off and nothing is zero but for a mask.
smooth = functools.partial(AutoregressiveMLP, activation="silu")
NETWORKS = {
    "plain": smooth(6, 3, (8, 7)),
    "context": smooth(6, 3, (14, 9), context=2),
    "residual": smooth(4, 2, (9, 9, 9), context=2, residual=True),
    "narrow": smooth(9, 1, (3,)),
    "tiles": smooth(40, 8, (256, 256), context=1),
    "one": smooth(1, 4, (5,)),
    "one_context": smooth(1, 4, (5,), context=3),
}
each = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def made(name):
  """The network, with parameters away from where they start, inputs and a context."""
  network, (param_key, key, context_key) = NETWORKS[name], jax.random.split(KEY, 3)
  x = jax.random.normal(key, (BATCH, network.dims))
  context = jax.random.normal(context_key, (BATCH, network.context)) if network.context else None
  params = jax.jit(network.init)(param_key, x, context)["params"]
  leaves, tree = jax.tree.flatten(params)
  leaves = [p + 0.3 * jax.random.normal(jax.random.fold_in(key, i), p.shape) for i, p in enumerate(leaves)]
  return network, jax.tree.unflatten(tree, leaves), x, context


@pytest.mark.fast_cases("one")
@each
def test_starts_at_zero(name):
  network, _, x, context = made(name)
  outputs, variables = jax.jit(network.init_with_output)(KEY, x, context)
  np.testing.assert_array_equal(outputs, jnp.zeros((BATCH, network.dims, network.num_parameters)))
  assert {name: mask.shape for name, mask in network.masks().items()} == {
    name: p.shape for name, p in variables["params"].items() if "kernel" in name}


def test_may_start_small():
  network, _, x, context = made("plain")
  kernel = jax.jit(network.clone(output_scale=0.01).init)(KEY, x, context)["params"]["output_kernel_0"]
  assert 0.0 < np.abs(kernel).max() < 0.02


@pytest.mark.fast_cases("narrow", "one")
@each
def test_outputs_see_exactly_their_past_and_the_context(name):
  network, params, x, context = made(name)
  apply = functools.partial(network.apply, {"params": params})
  by_x = jax.jit(jax.jacrev(lambda x, c: jnp.sum(apply(x, c), axis=(0, 2))))(x, context)
  sees = np.any(np.asarray(by_x) != 0.0, axis=1)  # [output, input]
  expected = np.tri(network.dims, k=-1, dtype=bool)
  assert not np.any(sees & ~expected)
  if name != "narrow":  # with three units for eight degrees, positions share what they see
    np.testing.assert_array_equal(sees, expected)
  if network.context:
    by_context = jax.jit(jax.jacrev(lambda c: jnp.sum(apply(x, c), axis=(0, 2))))(context)
    assert np.all(np.any(np.asarray(by_context) != 0.0, axis=(1, 2)))


@pytest.mark.fast_cases("one")
@each
def test_steps_are_the_network(name):
  network, params, x, context = made(name)

  @jax.jit
  def walked(params, x, context):
    walk = network.apply({"params": params}, BATCH, context, method="steps")

    def position(values, step):
      index, column, step = step
      values, parameters = walk.advance(values, step)
      return [values[0].at[index].set(column), *values[1:]], parameters

    return jax.lax.scan(position, walk.values, (jnp.arange(network.dims), x.T, walk.steps))[1]

  outputs = jax.jit(network.apply)({"params": params}, x, context)
  np.testing.assert_allclose(jnp.moveaxis(walked(params, x, context), -1, 0), outputs, atol=2e-4, rtol=1e-4)


def test_all_steps_multiply_as_much_as_one_pass():
  network = AutoregressiveMLP(17, 2, (64, 64))
  variables = jax.eval_shape(network.init, KEY, jnp.zeros((BATCH, 17)))
  steps = jax.eval_shape(lambda variables: network.apply(variables, BATCH, method="steps").steps, variables)
  dense = [(17, 64), (64, 64), (64, 34)]
  for kernel, shape in zip([*steps.kernels, steps.output], dense, strict=True):
    assert kernel.size <= 1.1 * np.prod(shape)


@pytest.mark.fast_cases("one")
@each
def test_every_unmasked_parameter_moves(name):
  network, params, x, context = made(name)
  optimizer = optax.adam(1e-2)

  @jax.jit
  def step(params, state):
    gradient = jax.grad(lambda p: jnp.mean(jnp.square(network.apply({"params": p}, 3.0 * x, context) - 1.0)))(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state

  moved, state = params, optimizer.init(params)
  for _ in range(3):
    moved, state = step(moved, state)
  masks = network.masks()
  for leaf, before in params.items():
    still = np.asarray(moved[leaf]) == np.asarray(before)
    mask = masks.get(leaf, np.ones(before.shape, bool))
    assert np.all(still[~mask]), leaf
    assert not np.any(still & mask), leaf


def test_tiles_leave_out_what_no_unit_may_see():
  _, params, _, _ = made("tiles")
  dense = 40 * 256 + 256 * 256 + 256 * 320
  assert sum(p.size for name, p in params.items() if "kernel" in name) < 0.85 * dense


@pytest.mark.slow
@pytest.mark.parametrize("network", [AutoregressiveMLP(4, 2, (30,), dropout=0.5), MLP(4, (30,), dropout=0.5)],
                         ids=["masked", "plain"])
def test_dropout_is_on_with_its_rng_alone(network):
  network = network.clone(output_scale=1.0)
  x = jnp.ones((50, 4))
  variables = jax.jit(network.init)(KEY, x)
  off, on, other = (np.asarray(jax.jit(network.apply)(variables, x, rngs=rngs)) for rngs in (
    {}, {"dropout": KEY}, {"dropout": jax.random.key(1)}))
  assert np.ptp(off, axis=0).max() < 1e-6 and np.ptp(on, axis=0).max() > 0.1 and np.any(on != other)
  np.testing.assert_array_equal(off, network.apply(variables, x))


@pytest.mark.fast_cases("True")
@pytest.mark.parametrize("residual", [False, True])
def test_mlp(residual):
  network = MLP(6, (8, 8), num_parameters=3, context=2, residual=residual, activation="silu")
  x, context = jnp.arange(8.0).reshape(2, 4), jnp.ones((2, 2))
  outputs, variables = jax.jit(network.init_with_output)(KEY, x, context)
  np.testing.assert_array_equal(outputs, jnp.zeros((2, 6)))
  params = {name: p + 0.3 * jax.random.normal(jax.random.fold_in(KEY, i), p.shape)
            for i, (name, p) in enumerate(variables["params"].items())}
  h = jnp.concatenate([x, context], axis=-1)
  for layer in range(2):
    new = jax.nn.silu(h @ params[f"hidden_{layer}_kernel"] + params[f"hidden_bias_{layer}"])
    h = h + new if residual and layer else new
  by_parameter = (h @ params["output_kernel"]).reshape(2, 3, 2)
  expected = by_parameter.transpose(0, 2, 1) + params["bias"]
  np.testing.assert_allclose(network.apply({"params": params}, x, context), expected.reshape(2, 6), rtol=1e-5,
                             atol=1e-5)


@pytest.mark.parametrize("build", [functools.partial(AutoregressiveMLP, 3, 2), functools.partial(MLP, 6)])
def test_what_cannot_be_is_refused(build):
  # Without hidden layers an MLP is linear; a masked network would have no output that sees any input.
  least = {"hidden": ()} if build.func is AutoregressiveMLP else {"hidden": (0,)}
  for fields, message in ((least, "hidden is"), ({"hidden": (4, 5), "residual": True}, "one size"),
                          ({"dropout": 1.0}, "dropout is 1.0"), ({"activation": "rel"}, "did you mean 'relu'")):
    with pytest.raises(ConfigError, match=message):
      build(**fields)
  for width, context in ((2, None), (0, jnp.ones((4, 2))), (3, jnp.ones((4, 2)))):
    with pytest.raises(SpecError, match=f"takes one of {width}"):
      build(context=width).init(KEY, jnp.ones((4, 3)), context)
  with pytest.raises(ConfigError, match="must divide the 6 outputs"):
    MLP(6, num_parameters=4)
