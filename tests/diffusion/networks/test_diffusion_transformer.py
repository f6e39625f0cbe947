"""The diffusion transformer: patches in their places, attention without order; and see test_networks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.denoisers import KEY, TIME, Case

from gdm.diffusion.networks.diffusion_transformer import DiffusionTransformer, positions
from gdm.errors import SpecError
from gdm.networks.attention import FullAttention, full_attention

NETWORK = DiffusionTransformer(2, width=8, num_layers=1, num_heads=2, context=2)


def test_patches_come_back_where_they_were():
  case, size = Case(NETWORK, (4, 6, 1)), NETWORK.patch
  # Of blocks that are the identity, where no patch sees another: only the pixels of a changed one change.
  changed = {**jax.tree.map(jnp.zeros_like, case.params), **{name: case.params[name] for name in ("tokens", "last")}}
  out, other = (case.run(changed, x) for x in (case.x, case.x.at[:, 2, 3].add(1.0)))
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


def test_images_that_patches_do_not_tile_are_refused():
  with pytest.raises(SpecError, match=r"5 x 4, and network\.patch is 2"):
    NETWORK.init(KEY, jnp.zeros((2, 5, 4, 1)), TIME)
