"""Discrete-time schedules: T steps, the i-th from time (i - 1) / T to i / T of a path (arXiv:2006.11239, section 2)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gdm import checks
from gdm.diffusion.paths.path import NoisePath, transition
from gdm.diffusion.paths.variance_preserving import PiecewiseBeta


@functools.cache
def discretize(path: NoisePath, num_steps: int, beta_max: float = 0.999) -> PiecewiseBeta:
  """Return `num_steps` steps along a variance-preserving path.

  Args:
    path: noise path whose alpha^2 + sigma^2 is 1.
    num_steps: T.
    beta_max: no beta is larger (arXiv:2102.09672, section 3.2); only a cosine's last ones would be.

  Raise ConfigError where there is no step.
  """
  checks.at_least("num_steps", num_steps, 1)
  with jax.ensure_compile_time_eval():
    times = jnp.arange(num_steps + 1) / num_steps
    # The variance that step i adds: 1 - scale^2 of a variance-preserving path.
    betas = jnp.minimum(transition(path, times[:-1], times[1:]).variance, beta_max)
    return PiecewiseBeta(tuple(np.asarray(betas).tolist()))


def linear_betas(num_steps: int, beta_min: float = 0.1, beta_max: float = 20.0) -> tuple[float, ...]:
  """Return DDPM's betas: evenly from beta_min / T to beta_max / T, which are 1e-4 and 0.02 of its 1,000 steps."""
  checks.at_least("num_steps", num_steps, 1)
  return tuple(np.linspace(beta_min / num_steps, beta_max / num_steps, num_steps).tolist())
