"""Metropolis-Hastings kernels of real states that follow the gradient: MALA and Hamiltonian Monte Carlo.

Both leave f exactly as it is and are reversible. A proposal whose energy is not finite is rejected and told of as
divergent; a chain that is itself at NaN stays there, for all to see. They know no model.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from gdm.inference.langevin import LogProb, value_and_gradient


class Move(NamedTuple):
  """Chains after a proposal each, or after several.

  Attributes:
    x: the chains.
    acceptance: the probability with which each proposal was accepted; of several, its mean.
    divergent: whether a proposal left the finite numbers.
  """

  x: Float[Array, "chains *event"]
  acceptance: Float[Array, " chains"]
  divergent: Bool[Array, " chains"]


Kernel = Callable[[Key[Array, ""], Float[Array, "chains *event"]], Move]


def hmc_step(key: Key[Array, ""], x: Float[Array, "chains *event"], log_prob: LogProb,
             step_size: Float[Array, ""] | float, num_leapfrog: int,
             scale: Float[Array, "*event"] | float = 1.0) -> Move:
  """Hamiltonian Monte Carlo (Neal, arXiv:1206.1901, section 3): fresh momenta, a leapfrog path, a decision.

  Args:
    key: of this step.
    x: the chains.
    log_prob: log f(x) in nats up to a constant.
    step_size: of the leapfrog, in units of `scale`.
    num_leapfrog: leapfrog steps; it takes one gradient more.
    scale: of each dimension, its spread under f at best (section 4.1); where it is 0 nothing moves.
  """
  momentum_key, accept_key = jax.random.split(key)
  momentum = jax.random.normal(momentum_key, x.shape, x.dtype)
  value, gradient = value_and_gradient(log_prob, x)

  def leapfrog(state, _):
    x, p, gradient, _ = state
    p = p + 0.5 * step_size * scale * gradient
    x = x + step_size * scale * p
    value, gradient = value_and_gradient(log_prob, x)
    return (x, p + 0.5 * step_size * scale * gradient, gradient, value), None

  state = (x, momentum, gradient, value)
  proposed, end, _, end_value = (leapfrog(state, None)[0] if num_leapfrog == 1
                                 else jax.lax.scan(leapfrog, state, None, length=num_leapfrog)[0])
  log_ratio = end_value - _kinetic(end) - value + _kinetic(momentum)
  return _accept(accept_key, x, proposed, log_ratio, value)


def mala_step(key: Key[Array, ""], x: Float[Array, "chains *event"], log_prob: LogProb,
              step_size: Float[Array, ""] | float, scale: Float[Array, "*event"] | float = 1.0) -> Move:
  """The Metropolis-adjusted Langevin algorithm (Roberts and Tweedie, 1996): a Langevin step, accepted or not.

  Its proposal is that of gdm/inference/langevin.py with the same step size. It is Hamiltonian Monte Carlo of a single
  leapfrog step of sqrt(2 e) (Neal, section 5.2), and is computed so: the ratio of proposals needs no division by scale.
  """
  return hmc_step(key, x, log_prob, jnp.sqrt(2.0 * jnp.asarray(step_size, x.dtype)), 1, scale)


def walk(key: Key[Array, ""], x: Float[Array, "chains *event"], kernel: Kernel, num_steps: int) -> Move:
  """`num_steps` moves in one compiled loop; step i's key is `fold_in(key, i)`."""

  def one(state, index):
    moved = kernel(jax.random.fold_in(key, index), state.x)
    return Move(moved.x, state.acceptance + moved.acceptance / num_steps, state.divergent | moved.divergent), None

  chains = x.shape[0]
  start = Move(x, jnp.zeros(chains, x.dtype), jnp.zeros(chains, bool))
  return jax.lax.scan(one, start, jnp.arange(num_steps))[0]


def _kinetic(momentum: Float[Array, "chains *event"]) -> Float[Array, " chains"]:
  return 0.5 * jnp.sum(jnp.square(momentum), axis=tuple(range(1, momentum.ndim)))


def _accept(key: Key[Array, ""], x: Array, proposed: Array, log_ratio: Array, value: Array) -> Move:
  divergent = ~jnp.isfinite(log_ratio)
  # From where f is 0 anywhere finite is better, and a ratio of plus infinity says so.
  acceptance = jnp.where(divergent & ~jnp.isposinf(log_ratio), 0.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))
  accepted = jax.random.bernoulli(key, acceptance)
  kept = jnp.where(accepted.reshape(-1, *(1,) * (x.ndim - 1)), proposed, x)
  return Move(kept, acceptance, divergent & jnp.isfinite(value))
