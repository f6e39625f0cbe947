"""Normals over integer levels: all levels together have probability one, each the integral over its bin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gdm.distributions.discretized_normal import log_bin

MEANS = np.array([-3.0, -1.0, -0.2, 0.0, 0.49, 1.0, 30.0], np.float32)
LOG_SCALES = np.log(np.array([1e-3, 1e-2, 0.1, 1.0, 20.0], np.float32))


@pytest.mark.fast_cases("2")
@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_levels_have_the_probability_of_their_bins_and_one_in_all(levels):
  means, log_scales = (a.ravel() for a in np.meshgrid(MEANS, LOG_SCALES))
  x = np.arange(levels)[:, None].astype(np.uint8)
  found = np.asarray(jax.jit(log_bin, static_argnums=3)(means, log_scales, x, levels), np.float64)
  np.testing.assert_allclose(np.exp(found).sum(axis=0), 1.0, rtol=2e-5)
  edges = (2.0 * np.arange(levels + 1) - levels) / (levels - 1)
  edges[[0, -1]] = -np.inf, np.inf
  z = (edges[:, None] - means.astype(np.float64)) / np.exp(log_scales.astype(np.float64))
  below = z[:-1] + z[1:] < 0.0  # differences in the lower tail
  truth = np.where(below, np.diff(scipy.stats.norm.cdf(z), axis=0), -np.diff(scipy.stats.norm.sf(z), axis=0))
  seen = truth > 1e-30
  np.testing.assert_allclose(found[seen], np.log(truth[seen]), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_far_tails_keep_finite_values_and_gradients():
  """A level 300 standard deviations off: about -z^2 / 2, whose slope is -z."""
  def score(mean, log_scale):
    return log_bin(mean, log_scale, jnp.asarray(128), 257)  # level 128 is at 0

  value, slopes = jax.value_and_grad(score, (0, 1))(jnp.asarray(-3.0), jnp.asarray(np.log(1e-2), jnp.float32))
  nearest = (3.0 - 1.0 / 256.0) / 1e-2
  np.testing.assert_allclose(value, scipy.stats.norm.logsf(nearest), rtol=1e-4)
  np.testing.assert_allclose(slopes[0], nearest / 1e-2, rtol=2e-2)
  np.testing.assert_allclose(slopes[1], nearest**2, rtol=2e-2)
