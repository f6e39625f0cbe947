"""log Z of a density of one or two dimensions, over cells that are small where the mass is."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.energy.continuous.chains import Target
from gdm.energy.normalizers import LogIntegral
from gdm.inference.quadrature import Box, climb, log_integral
from gdm.precision import highest_precision

BASE_HINTS, CHAIN_HINTS = 64, 128  # draws and chains from which peaks are looked for


@highest_precision()
def integral(target: Target, box: Box, examples: Float[Array, "examples *event"] | None = None) -> LogIntegral:
  """Return log Z in nats, exact but for the cells' error, which is stated.

  It is the same whenever it is asked for, but where f is unexpectedly large at an example.

  Args:
    target: the density, of standardized values.
    box: where to look first.
    examples: standardized values at which mass is looked for too, as at draws of the base and at chains.
  """
  energy, event = target.energy(None), target.spread.shape
  num_dims = math.prod(event)

  def log_density(u):
    return -energy(u.reshape(-1, *event))

  box = jax.tree.map(lambda part: part.reshape(num_dims), box)
  starts = [target.base.sample(jax.random.key(0), BASE_HINTS)]
  if target.chains is not None:
    starts.append(target.chains[::-(-len(target.chains) // CHAIN_HINTS)])
  # A chain that is lost, or a draw, is no place to look at.
  starts = jnp.concatenate([start.reshape(-1, num_dims) for start in starts])
  starts = jnp.where(jnp.isfinite(starts), starts, box.centre)
  hints = jnp.concatenate([starts, climb(log_density, starts, 0.25 * box.half_width)])
  if examples is not None:  # an example that is not finite has no density, and must not spoil those of others
    flat = examples.reshape(-1, num_dims)
    hints = jnp.concatenate([hints, jnp.where(jnp.isfinite(flat), flat, box.centre)])
  hints = jax.lax.stop_gradient(hints)
  half_width = jnp.maximum(box.half_width, 2.0 * jnp.max(jnp.abs(hints - box.centre), axis=0))
  found = log_integral(log_density, num_dims, half_width, centre=box.centre, scale=box.scale, hints=hints)
  return LogIntegral(found.nats, found.error)
