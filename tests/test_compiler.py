"""Compiled sums are what they should be; see gdm/__init__.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_sums_next_to_transcendental_functions_are_right(name):
  t = np.linspace(1e-5, 1.0, 65536)
  noise = np.random.default_rng(0).normal(size=(len(t), 2))

  def function(xp, t, noise):
    return getattr(xp, name)(t) * xp.sum(noise * getattr(xp, name)(-0.9 * t)[:, None], axis=-1)

  compiled = jax.jit(lambda t, noise: function(jnp, t, noise))(np.float32(t), np.float32(noise))
  np.testing.assert_allclose(compiled, function(np, t, noise), rtol=1e-3, atol=1e-6)
