"""Compiled sums are what they should be, in a process that compiles as users do; see gdm/__init__.py."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import gdm
import jax, jax.numpy as jnp, numpy as np
t = np.linspace(1e-5, 1.0, 65536)
noise = np.random.default_rng(0).normal(size=(len(t), 2))
def function(xp, t, noise):
  part = getattr(xp, sys.argv[1])
  return part(t) * xp.sum(noise * part(-0.9 * t)[:, None], axis=-1)
compiled = jax.jit(lambda t, noise: function(jnp, t, noise))(np.float32(t), np.float32(noise))
np.testing.assert_allclose(compiled, function(np, t, noise), rtol=1e-3, atol=1e-6)
"""


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_sums_next_to_transcendental_functions_are_right(name):
  environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
  found = subprocess.run([sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, text=True)
  assert found.returncode == 0, found.stderr
