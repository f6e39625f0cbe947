"""Integers with noise stay within their own cells, and off both ends of all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.flows.bijections.elementwise import Logit
from gdm.flows.dequantization import dequantized


@pytest.mark.parametrize("levels", [2, 256, 65536])
def test_a_logit_without_margin_is_finite_at_the_ends_of_noise(levels):
  """255 plus the largest noise below 1 is 256 in float32, whose logit has no end; so has that of noise 0 at 0."""
  x = np.repeat([[0, levels - 1]], 2, axis=0)
  noise = jnp.array([[0.0, 0.0], [1.0 - 2.0**-23, 1.0 - 2.0**-23]])
  real = dequantized(x, noise)
  assert np.all((np.asarray(real) >= x) & (np.asarray(real) < x + 1))
  assert np.isfinite(Logit(0.0).apply({}, real / levels).log_det).all()


def test_other_noise_is_added_as_it_is():
  x = np.random.default_rng(0).integers(0, 256, (50, 4))
  noise = jax.random.uniform(jax.random.key(0), x.shape)
  np.testing.assert_array_equal(dequantized(x, noise), x.astype(np.float32) + noise)
