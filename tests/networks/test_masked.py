"""Masked layers: tiles cover every connection, and the layer is the masked product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.networks.activations import activation, initializer
from gdm.networks.dropout import dropout, dropout_scale
from gdm.networks.masked import MaskedDense, connections, dense_kernel, even_degrees, staircase, tile_masks

KEY = jax.random.key(0)


@pytest.mark.fast_cases("5-7-0")
@pytest.mark.parametrize(("num_in", "num_out", "shift"), [(5, 7, 0), (300, 700, 0), (700, 300, -1), (1, 400, -1)])
def test_a_tiled_layer_is_the_masked_product(num_in, num_out, shift):
  degrees, limits = even_degrees(num_in, 300), even_degrees(num_out, 300) + shift
  tiles = staircase(degrees, limits)
  layer = MaskedDense(num_in, tiles)
  x = jax.random.normal(KEY, (3, num_in))
  arguments = (jnp.asarray(degrees), jnp.asarray(limits))
  params = jax.jit(layer.init)(KEY, x, *arguments)["params"]
  mask = connections(degrees, limits)
  kernel = np.zeros((num_in, num_out))
  stored = np.asarray(dense_kernel(params, tiles))
  kernel[:len(stored)] = stored
  np.testing.assert_allclose(jax.jit(layer.apply)({"params": params}, x, *arguments), x @ (kernel * mask), atol=1e-4)
  assert sum(m.sum() for m in tile_masks(tiles, degrees, limits).values()) == mask.sum()
  if min(num_in, num_out) >= 256:
    assert sum(p.size for p in params.values()) < 0.8 * num_in * num_out


def test_tiling_does_not_change_the_initial_weights():
  degrees, limits = even_degrees(300, 300), even_degrees(600, 300)
  arguments = (jnp.zeros((1, 300)), jnp.asarray(degrees), jnp.asarray(limits))
  params = jax.jit(MaskedDense(300, staircase(degrees, limits), "glorot_uniform").init)(KEY, *arguments)["params"]
  bound = np.sqrt(6 / 900)
  for kernel in params.values():
    np.testing.assert_allclose(np.abs(kernel).max(), bound, rtol=1e-2)


@pytest.mark.parametrize(("num_units", "num_degrees"), [(10, 5), (7, 3), (3, 9), (4, 0)])
def test_even_degrees_are_even(num_units, num_degrees):
  degrees = even_degrees(num_units, num_degrees)
  counts = np.bincount(degrees, minlength=max(num_degrees, 1))
  assert len(degrees) == num_units and np.all(np.diff(degrees) >= 0)
  assert counts.max() - counts.min() <= 1 and len(counts) == max(num_degrees, 1)


def test_dropout_keeps_the_mean_and_needs_a_key():
  x = jnp.ones((300, 300))
  dropped = np.asarray(dropout(KEY, x, 0.3))
  assert set(np.unique(dropped)) == {0.0, np.float32(1.0 / 0.7)}
  np.testing.assert_allclose(dropped.mean(), 1.0, atol=0.02)
  np.testing.assert_allclose(dropout_scale(KEY, x.shape, 0.3), dropped)
  np.testing.assert_array_equal(dropout(None, x, 0.3), x)
  np.testing.assert_array_equal(dropout(KEY, x, 0.0), x)
  assert dropout_scale(None, x.shape, 0.3) == dropout_scale(KEY, x.shape, 0.0) == 1.0


def test_unknown_names_are_errors():
  with pytest.raises(ConfigError, match="did you mean 'relu'"):
    activation("rel")
  with pytest.raises(ConfigError, match="did you mean 'he_normal'"):
    initializer("he_norml")
