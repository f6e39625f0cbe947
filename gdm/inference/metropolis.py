"""Metropolis-Hastings kernels of real states that follow the gradient: MALA and Hamiltonian Monte Carlo.

Both leave f exactly as it is and are reversible. A proposal whose energy is not finite is rejected and told of as
divergent; a chain that is itself at NaN stays there, for all to see. They know no model.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from gdm.inference import langevin
from gdm.inference.langevin import LogProb, value_and_gradient
from gdm.inference.watched import Watch
from gdm.precision import highest_precision


class Point(NamedTuple):
  """Where chains are, with log f and its gradient there, which the next step needs and no step computes twice."""

  x: Float[Array, "chains *event"]
  value: Float[Array, " chains"]
  gradient: Float[Array, "chains *event"]


class Move(NamedTuple):
  """Chains after a step.

  Attributes:
    at: where they are.
    acceptance: the probability with which each proposal was accepted.
    divergent: whether a proposal left the finite numbers.
  """

  at: Point
  acceptance: Float[Array, " chains"]
  divergent: Bool[Array, " chains"]


class Walk(NamedTuple):
  """Chains after several steps.

  Attributes:
    x: the chains.
    acceptance: the mean of their steps.
    divergent: whether any proposal left the finite numbers.
    trace: log f after every step.
    watched: further numbers of the chains after every step, by name.
  """

  x: Float[Array, "chains *event"]
  acceptance: Float[Array, " chains"]
  divergent: Bool[Array, " chains"]
  trace: Float[Array, "chains steps"]
  watched: Mapping[str, Float[Array, "chains steps"]] = {}


Kernel = Callable[[Key[Array, ""], Point], Move]


@highest_precision()
def point(log_prob: LogProb, x: Float[Array, "chains *event"]) -> Point:
  """Chains at x."""
  return Point(x, *value_and_gradient(log_prob, x))


def hmc(log_prob: LogProb, step_size: Float[Array, ""] | float, num_leapfrog: int,
        scale: Float[Array, "*event"] | float = 1.0) -> Kernel:
  """Hamiltonian Monte Carlo (Neal, arXiv:1206.1901, section 3): fresh momenta, a leapfrog path, a decision.

  Args:
    log_prob: log f(x) in nats up to a constant.
    step_size: of the leapfrog, in units of `scale`.
    num_leapfrog: leapfrog steps, of a gradient each.
    scale: of each dimension, its spread under f at best (section 4.1); where it is 0 nothing moves.
  """

  def leapfrog(state, _):
    at, p = state
    p = p + 0.5 * step_size * scale * at.gradient
    at = point(log_prob, at.x + step_size * scale * p)
    return (at, p + 0.5 * step_size * scale * at.gradient), None

  def kernel(key, at):
    momentum_key, accept_key = jax.random.split(key)
    momentum = jax.random.normal(momentum_key, at.x.shape, at.x.dtype)
    state = (at, momentum)
    there, end = (leapfrog(state, None)[0] if num_leapfrog == 1
                  else jax.lax.scan(leapfrog, state, None, length=num_leapfrog)[0])
    return _accept(accept_key, at, there, there.value - _kinetic(end) - at.value + _kinetic(momentum))

  return kernel


def mala(log_prob: LogProb, step_size: Float[Array, ""] | float,
         scale: Float[Array, "*event"] | float = 1.0) -> Kernel:
  """The Metropolis-adjusted Langevin algorithm (Roberts and Tweedie, 1996): a Langevin step, accepted or not.

  Its proposal is that of gdm/inference/langevin.py with the same step size. It is Hamiltonian Monte Carlo of a single
  leapfrog step of sqrt(2 e) (Neal, section 5.2), and is computed so: the ratio of proposals needs no division by scale.
  """
  return hmc(log_prob, jnp.sqrt(2.0 * jnp.asarray(step_size, jnp.result_type(float))), 1, scale)


def unadjusted(log_prob: LogProb, step_size: Float[Array, ""] | float, temperature: Float[Array, ""] | float = 1.0,
               scale: Float[Array, "*event"] | float = 1.0) -> Kernel:
  """The same proposals, never rejected, and so with a bias: a step of gdm/inference/langevin.py."""

  def kernel(key, at):
    there = point(log_prob, langevin.propose(key, at.x, at.gradient, step_size, temperature, scale))
    finite = jnp.isfinite(there.x).reshape(len(there.x), -1).all(axis=1)
    return Move(there, jnp.ones_like(there.value), ~finite)

  return kernel


def walk(key: Key[Array, ""], x: Float[Array, "chains *event"], log_prob: LogProb, kernel: Kernel,
         num_steps: int, watch: Watch = lambda x: {}) -> Walk:
  """`num_steps` steps of a kernel of `log_prob` in one compiled loop; step i's key is `fold_in(key, i)`."""

  def one(state, index):
    at, acceptance, divergent = state
    moved = kernel(jax.random.fold_in(key, index), at)
    state = moved.at, acceptance + moved.acceptance / max(num_steps, 1), divergent | moved.divergent
    return state, (moved.at.value, watch(moved.at.x))

  chains = x.shape[0]
  start = point(log_prob, x), jnp.zeros(chains, x.dtype), jnp.zeros(chains, bool)
  (at, acceptance, divergent), traces = jax.lax.scan(one, start, jnp.arange(num_steps))
  trace, watched = jax.tree.map(jnp.transpose, traces)
  return Walk(at.x, acceptance, divergent, trace, watched)


def _kinetic(momentum: Float[Array, "chains *event"]) -> Float[Array, " chains"]:
  return 0.5 * jnp.sum(jnp.square(momentum), axis=tuple(range(1, momentum.ndim)))


def _accept(key: Key[Array, ""], at: Point, there: Point, log_ratio: Float[Array, " chains"]) -> Move:
  divergent = ~jnp.isfinite(log_ratio)
  # From where f is 0 anywhere finite is better, and a ratio of plus infinity says so.
  acceptance = jnp.where(divergent & ~jnp.isposinf(log_ratio), 0.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))
  accepted = jax.random.bernoulli(key, acceptance)
  kept = jax.tree.map(lambda new, old: jnp.where(accepted.reshape(-1, *(1,) * (old.ndim - 1)), new, old), there, at)
  return Move(kept, acceptance, divergent & jnp.isfinite(at.value))
