"""The denoising network of vectors: its shapes, its start at zero, what it is told, and its dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.diffusion.networks.denoising_mlp import DenoisingMLP
from gdm.errors import ConfigError

KEY = jax.random.key(0)
TIME, CLASSES = jnp.array([0.1, 0.7]), jnp.eye(2)
NETWORK = DenoisingMLP(4, hidden=(4, 4, 6), context=2, dropout=0.5)


@pytest.fixture(scope="module")
def case():
  draw = np.random.default_rng(0).normal
  x = jnp.asarray(draw(size=(2, 3, 2)), jnp.float32)
  shapes = jax.eval_shape(NETWORK.init, KEY, x, TIME, CLASSES)["params"]
  params = jax.tree.map(lambda leaf: jnp.asarray(0.4 * draw(size=leaf.shape), jnp.float32), shapes)
  target = jnp.asarray(draw(size=(2, 3, 4)), jnp.float32)

  @jax.jit
  def run(params, x, time, context):
    out, pull = jax.vjp(lambda p: NETWORK.apply({"params": p}, x, time, context), params)
    return out, pull(target)[0]

  return x, params, run


@pytest.mark.slow
def test_starts_at_zero_and_then_every_parameter_receives_a_gradient(case):
  x, params, run = case
  last = jax.jit(lambda: NETWORK.init(KEY, x, TIME, CLASSES)["params"]["last"])()
  np.testing.assert_array_equal(run({**params, "last": last}, x, TIME, CLASSES)[0], jnp.zeros((2, 3, 4)))
  for path, leaf in jax.tree_util.tree_leaves_with_path(run(params, x, TIME, CLASSES)[1]):
    assert jnp.max(jnp.abs(leaf)) > 1e-6, path


def test_time_and_class_are_seen_by_their_own_example_alone(case):
  x, params, run = case
  out = run(params, x, TIME, CLASSES)[0]
  for one, time, context in ((x, TIME.at[1].set(0.2), CLASSES), (x, TIME, CLASSES.at[1].set(0.0)),
                             (x.at[1].add(1.0), TIME, CLASSES)):
    other = run(params, one, time, context)[0]
    np.testing.assert_allclose(out[0], other[0], atol=1e-5)
    assert np.all(out[1] != other[1])


def test_dropout_is_on_where_its_rng_is(case):
  x, params, _ = case
  apply = jax.jit(lambda rngs: NETWORK.apply({"params": params}, x, TIME, CLASSES, rngs=rngs))
  one, again, other = (apply({"dropout": jax.random.key(i)}) for i in (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert np.any(one != other)


@pytest.mark.parametrize("outputs, event, made", [(5, (5,), (5,)), (2, (4, 3, 8), (4, 3, 2))])
def test_the_last_axis_has_the_size_asked_for(outputs, event, made):
  network = DenoisingMLP(outputs)
  out = jax.eval_shape(lambda: network.init_with_output(KEY, jnp.zeros((2, *event)), TIME))[0]
  assert out.shape == (2, *made)


@pytest.mark.parametrize("fields", [{"hidden": ()}, {"outputs": 0}, {"dropout": -0.1},
                                    {"embedding": "sinus"}], ids=lambda f: next(iter(f)))
def test_fields_that_cannot_be_used_are_refused(fields):
  with pytest.raises(ConfigError, match=next(iter(fields))):
    DenoisingMLP(**fields)
