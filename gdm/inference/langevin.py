"""Unadjusted Langevin dynamics, with schedules of step sizes and temperatures. Knows no model.

Nothing is ever rejected, so the chains' distribution is off by a bias that falls with the step (Roberts and Tweedie,
1996); gdm/inference/metropolis.py has the kernels without it. A chain that leaves the numbers becomes NaN and stays so.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.errors import ConfigError

LogProb = Callable[[Float[Array, "chains *event"]], Float[Array, " chains"]]


def value_and_gradient(log_prob: LogProb, x: Float[Array, "chains *event"]
                       ) -> tuple[Float[Array, " chains"], Float[Array, "chains *event"]]:
  """Return log f of every chain in nats, and its gradient there."""
  value, pullback = jax.vjp(log_prob, x)
  return value, pullback(jnp.ones_like(value))[0]


def step(key: Key[Array, ""], x: Float[Array, "chains *event"], log_prob: LogProb,
         step_size: Float[Array, ""] | float, temperature: Float[Array, ""] | float = 1.0,
         scale: Float[Array, "*event"] | float = 1.0) -> Float[Array, "chains *event"]:
  """x + e s^2 grad log f(x) + sqrt(2 e T) s noise, with step size e, temperature T and scale s; differentiable.

  Args:
    key: of this step.
    x: the chains.
    log_prob: log f(x) in nats up to a constant.
    step_size: in squared units of `scale`.
    temperature: 1 samples f, less samples f^(1 / T), 0 climbs to a mode.
    scale: of each dimension, its spread under f at best; where it is 0 nothing moves.
  """
  return propose(key, x, value_and_gradient(log_prob, x)[1], step_size, temperature, scale)


def propose(key: Key[Array, ""], x: Float[Array, "chains *event"], gradient: Float[Array, "chains *event"],
            step_size: Float[Array, ""] | float, temperature: Float[Array, ""] | float,
            scale: Float[Array, "*event"] | float) -> Float[Array, "chains *event"]:
  """Return the step from x by the gradient there."""
  noise = jax.random.normal(key, x.shape, x.dtype)
  return x + step_size * jnp.square(scale) * gradient + jnp.sqrt(2.0 * step_size * temperature) * scale * noise


def walk(key: Key[Array, ""], x: Float[Array, "chains *event"], log_prob: LogProb,
         step_sizes: Float[Array | np.ndarray, " steps"],
         temperatures: Float[Array | np.ndarray, " steps"] | float = 1.0,
         scale: Float[Array, "*event"] | float = 1.0) -> Float[Array, "chains *event"]:
  """Return a step for every step size, and for its temperature, in one compiled loop; step i's key is `fold_in(key,
  i)`.

  The loop is not unrolled: on a CPU that took 1.0 to 1.3 times as long, and three times as long to compile.
  """
  step_sizes = jnp.asarray(step_sizes, x.dtype)
  temperatures = jnp.broadcast_to(jnp.asarray(temperatures, x.dtype), step_sizes.shape)

  def one(x, rung):
    index, size, temperature = rung
    return step(jax.random.fold_in(key, index), x, log_prob, size, temperature, scale), None

  return jax.lax.scan(one, x, (jnp.arange(len(step_sizes)), step_sizes, temperatures))[0]


def geometric(first: float, last: float, num_steps: int) -> Float[np.ndarray, " steps"]:
  """Return a schedule from `first` to `last` by equal factors. Raise ConfigError unless both are positive."""
  if not (first > 0.0 and last > 0.0):
    raise ConfigError(f"a schedule from {first} to {last} by equal factors has no steps; both must be positive.")
  return np.geomspace(first, last, num_steps)
