"""Recording steps of real data."""

import jax.numpy as jnp
import numpy as np
import pytest

from gdm.distributions.recording import recording_step


@pytest.mark.slow
def test_recording_steps_are_found_among_odd_values_and_rounding():
  rng = np.random.default_rng(0)
  tenths = np.round(rng.normal(10, 2, 1000), 1)
  tenths[:12] += 0.05  # a few are recorded more finely
  thousandths = np.round(rng.normal(0.9967, 0.02, 1000), 3)
  constant = np.full(1000, 3.0)
  x = np.float32(np.stack([tenths, thousandths, constant], axis=1))
  np.testing.assert_allclose(recording_step(jnp.asarray(x)), [0.1, 0.001, 1.0], rtol=1e-2)
  standard = (x[:, :2] - x[:, :2].mean(axis=0)) / x[:, :2].std(axis=0)
  np.testing.assert_allclose(recording_step(jnp.asarray(standard)), [0.1, 0.001] / x[:, :2].std(axis=0), rtol=1e-2)
