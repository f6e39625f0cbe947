"""The diffusion transformer: patches in their places, blocks that start as the identity, attention without order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.diffusion.networks.diffusion_transformer import DiffusionTransformer, positions
from gdm.diffusion.networks.layers import FullAttention, full_attention
from gdm.errors import ConfigError, SpecError

KEY = jax.random.key(0)
TIME, CLASSES = jnp.array([0.1, 0.7]), jnp.eye(2)
NETWORK = DiffusionTransformer(2, width=8, num_layers=1, num_heads=2, context=2)


@pytest.fixture(scope="module")
def case():
  draw = np.random.default_rng(0).normal
  x = jnp.asarray(draw(size=(2, 4, 6, 1)), jnp.float32)
  shapes = jax.eval_shape(NETWORK.init, KEY, x, TIME, CLASSES)["params"]
  params = jax.tree.map(lambda leaf: jnp.asarray(0.4 * draw(size=leaf.shape), jnp.float32), shapes)
  target = jnp.asarray(draw(size=(2, 4, 6, 2)), jnp.float32)

  @jax.jit
  def run(params, x, time, context):
    out, pull = jax.vjp(lambda p: NETWORK.apply({"params": p}, x, time, context), params)
    return out, pull(target)[0]

  return x, params, run


@pytest.mark.slow
def test_starts_at_zero_and_then_every_parameter_receives_a_gradient(case):
  x, params, run = case
  last = jax.jit(lambda: NETWORK.init(KEY, x, TIME, CLASSES)["params"]["last"])()
  np.testing.assert_array_equal(run({**params, "last": last}, x, TIME, CLASSES)[0], jnp.zeros((2, 4, 6, 2)))
  for path, leaf in jax.tree_util.tree_leaves_with_path(run(params, x, TIME, CLASSES)[1]):
    if "['key']['bias']" not in jax.tree_util.keystr(path):  # which softmax does not see
      assert jnp.max(jnp.abs(leaf)) > 1e-6, path


def test_time_and_class_are_seen_by_their_own_example_alone(case):
  x, params, run = case
  out = run(params, x, TIME, CLASSES)[0]
  for one, time, context in ((x, TIME.at[1].set(0.2), CLASSES), (x, TIME, CLASSES.at[1].set(0.0)),
                             (x.at[1, 0, 0].add(1.0), TIME, CLASSES)):
    other = run(params, one, time, context)[0]
    np.testing.assert_allclose(out[0], other[0], atol=1e-5)
    assert np.all(np.any(out[1] != other[1], axis=-1))


def test_patches_come_back_where_they_were(case):
  x, params, run = case
  size = NETWORK.patch
  # Of blocks that are the identity, where no patch sees another: only the pixels of a changed one change.
  changed = {**jax.tree.map(jnp.zeros_like, params), **{name: params[name] for name in ("tokens", "last")}}
  out, other = (run(changed, images, TIME, CLASSES)[0] for images in (x, x.at[:, 2, 3].add(1.0)))
  differs = np.any(np.abs(out - other) > 1e-6, axis=(0, 3))
  expected = np.zeros((4, 6), bool)
  expected[size:2 * size, size:2 * size] = True
  np.testing.assert_array_equal(differs, expected)


def test_attention_knows_no_order_and_is_jaxs():
  draw = np.random.default_rng(0).normal
  query, key, value = (jnp.asarray(draw(size=(2, 5, 3, 4)), jnp.float32) for _ in range(3))
  np.testing.assert_allclose(full_attention(query, key, value), jax.nn.dot_product_attention(query, key, value),
                             atol=1e-5)
  x, attention, order = query.reshape(2, 5, 12), FullAttention(3), jnp.array([3, 1, 4, 0, 2])
  variables = jax.jit(attention.init)(KEY, x)
  apply = jax.jit(attention.apply)
  np.testing.assert_allclose(apply(variables, x[:, order]), apply(variables, x)[:, order], atol=1e-5)


def test_positions_tell_all_patches_apart():
  found = np.asarray(positions(4, 6, 8))
  distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
  assert np.min(distances + 9.0 * np.eye(24)) > 0.1


@pytest.mark.slow
def test_dropout_is_on_where_its_rng_is(case):
  x, params, _ = case
  network = DiffusionTransformer(2, width=8, num_layers=1, num_heads=2, context=2, dropout=0.5)
  apply = jax.jit(lambda rngs: network.apply({"params": params}, x, TIME, CLASSES, rngs=rngs))
  one, again, other = (apply({"dropout": jax.random.key(i)}) for i in (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert np.any(one != other)


@pytest.mark.parametrize("fields", [{"patch": 0}, {"width": 6}, {"num_layers": 0}, {"num_heads": 3}, {"dropout": 1.0},
                                    {"embedding": "sinus"}], ids=lambda f: next(iter(f)))
def test_fields_that_cannot_be_used_are_refused(fields):
  with pytest.raises(ConfigError, match=next(iter(fields))):
    DiffusionTransformer(**{"outputs": 1, **fields})


def test_images_that_patches_do_not_tile_are_refused():
  with pytest.raises(SpecError, match=r"5 x 4, and network\.patch is 2"):
    NETWORK.init(KEY, jnp.zeros((2, 5, 4, 1)), TIME)
