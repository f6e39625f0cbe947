"""Discrete-time schedules: T steps, the i-th from time (i - 1) / T to i / T of a path, and back again."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.diffusion.paths.path import NoisePath, transition


class DiscreteSchedule(NamedTuple):
  """Of steps 1 to T (arXiv:2006.11239, section 2).

  Attributes:
    times: i / T.
    betas: the variance that step i adds, 1 - scale^2 of a variance-preserving path.
    alpha_bar: alpha^2 after step i.
  """

  times: Float[Array, " steps"]
  betas: Float[Array, " steps"]
  alpha_bar: Float[Array, " steps"]


def discretize(path: NoisePath, num_steps: int, beta_max: float = 0.999) -> DiscreteSchedule:
  """The betas of `num_steps` steps along a variance-preserving path, and the alpha_bar that they make.

  Args:
    path: whose alpha^2 + sigma^2 is 1.
    num_steps: T.
    beta_max: no beta is larger (arXiv:2102.09672, section 3.2); only a cosine's last ones would be.

  Raises:
    ConfigError: there is no step.
  """
  require_steps(num_steps)
  times = jnp.arange(num_steps + 1) / num_steps
  betas = jnp.minimum(transition(path, times[:-1], times[1:]).variance, beta_max)
  return DiscreteSchedule(times[1:], betas, jnp.exp(jnp.cumsum(jnp.log1p(-betas))))


def linear_betas(num_steps: int, beta_min: float = 0.1, beta_max: float = 20.0) -> tuple[float, ...]:
  """DDPM's betas: evenly from beta_min / T to beta_max / T, which are 1e-4 and 0.02 of its 1,000 steps."""
  require_steps(num_steps)
  return tuple(np.linspace(beta_min / num_steps, beta_max / num_steps, num_steps).tolist())


def require_steps(num_steps: int) -> None:
  """Raises a ConfigError unless there is a step."""
  checks.at_least("num_steps", num_steps, 1)
