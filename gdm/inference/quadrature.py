"""Integrals over a line or a plane by sums over an even grid."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.errors import ConfigError

MOST_DIMS = 2  # a third would take as many points again for each


class Integral(NamedTuple):
  """log of an integral in nats, and how far off it may be: by the grid's step, and by what lies outside the box."""

  nats: Float[Array, ""]
  error: Float[Array, ""]


def log_integral(log_density: Callable[[Float[Array, "points dims"]], Float[Array, " points"]], num_dims: int,
                 half_width: Float[Array, ""] | float, num_points: int = 512) -> Integral:
  """log of the integral of f over [-half_width, half_width]^num_dims, by the trapezoidal rule.

  For smooth f that vanishes at the border the rule's error falls faster than any power of the step (Trefethen and
  Weideman, 2014). `error` adds what every second point of the grid says otherwise, and twice the share of the mass
  that lies in the outermost twentieth of the box on every side: an alarm for what lies outside, but no bound.

  Args:
    log_density: log f of points, in nats.
    num_dims: 1 or 2.
    half_width: of the box.
    num_points: of the grid, along every dimension; a multiple of 2.

  Raises:
    ConfigError: more than 2 dimensions.
  """
  if num_dims > MOST_DIMS:
    raise ConfigError(f"quadrature over {num_dims} dimensions was asked for; it takes at most {MOST_DIMS}.")
  line = jnp.linspace(-half_width, half_width, num_points + 1)
  edge = num_points // 40

  def rows(first):
    points = jnp.stack([jnp.full_like(line, first), line], axis=-1) if num_dims == MOST_DIMS else line[:, None]
    return log_density(points)

  # By rows, so that a network's activations over the whole grid need not be held at once.
  table = jax.lax.map(rows, line) if num_dims == MOST_DIMS else rows(0.0)[None]
  log_step = jnp.log(2.0 * half_width / num_points)
  fine = jax.nn.logsumexp(table)
  coarse = jax.nn.logsumexp(table[::2, ::2]) + num_dims * jnp.log(2.0)
  core = table[edge:-edge, edge:-edge] if num_dims == MOST_DIMS else table[:, edge:-edge]
  outer = -jnp.expm1(jax.nn.logsumexp(core) - fine)
  return Integral(fine + num_dims * log_step, jnp.abs(fine - coarse) + 2.0 * jnp.maximum(outer, 0.0))
