"""Means and scales of data, and what counts as constant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.distributions.moments import moments


@pytest.mark.parametrize(("centre", "spread"),
                         [(0.0, 1.0), (1e3, 1.0), (-1e5, 3.0), (1e-7, 1e-9), (3e8, 1e4), (0.0, 1e-12)])
def test_moments_are_those_of_float64(centre, spread):
  x = (centre + spread * np.random.default_rng(0).normal(size=(5000, 2))).astype(np.float32)
  found = jax.jit(moments)(x)
  np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(axis=0), rtol=2e-7, atol=1e-3 * spread)
  np.testing.assert_allclose(found.scale, x.astype(np.float64).std(axis=0), rtol=1e-4)
  assert not found.is_constant.any()


@pytest.mark.fast_cases(
    "2-0.0", "2-0.1", "2-1e-09", "2--0.3333333333333333", "2-100000000.0", "2-5400000.0", "1000-0.1", "1000-1e-09",
    "1000--0.3333333333333333", "1000-100000000.0", "1000-5400000.0", "2001-0.1", "2001-1e-09",
    "2001--0.3333333333333333", "2001-100000000.0", "2001-5400000.0")
@pytest.mark.parametrize("value", [0.0, 0.1, 1e-9, -1 / 3, 1e8, 5.4e6])
@pytest.mark.parametrize("num", [2, 1000, 2001])
def test_a_constant_has_no_scale_of_its_own(value, num):
  """The mean of equal numbers is off by its rounding, which once became the scale: up to 17 nats a column."""
  equal = np.full((num, 1), value, np.float32)
  nearly = np.where(np.arange(num)[:, None] % 2, equal, np.nextafter(equal, np.float32(np.inf)))
  for x in (equal, nearly) if value else (equal,):
    found = jax.jit(moments)(x)
    assert found.is_constant.all() and found.scale == 1.0
    np.testing.assert_allclose(found.mean, value, rtol=2e-7)


@pytest.mark.slow
def test_axes_and_integers():
  x = jnp.arange(24).reshape(2, 3, 4)
  found = moments(x, (0, 2))
  np.testing.assert_allclose(found.mean, x.mean(axis=(0, 2)))
  np.testing.assert_allclose(found.scale, x.astype(float).std(axis=(0, 2)), rtol=1e-6)
  assert moments(x, (0, 1, 2)).mean.shape == ()
