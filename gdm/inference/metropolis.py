"""Metropolis-Hastings kernels of real states that follow the gradient: MALA and Hamiltonian Monte Carlo.

Both leave f exactly as it is and are reversible. A proposal whose energy is not finite is rejected and told of as
divergent; a chain that is itself at NaN stays there, for all to see. They know no model.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from gdm.inference import langevin
from gdm.inference.langevin import LogProb, value_and_gradient
from gdm.inference.watched import Watch
from gdm.precision import highest_precision

SHORT_SHARE, SHORTEST = 0.25, 1.0 / 32.0  # of mixed steps: how many are short, and the shortest


class ChainPoint(NamedTuple):
  """Places of chains, with log f and its gradient there, which the next step needs and no step computes twice."""

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

  at: ChainPoint
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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factor:
  """A scale of all dimensions together: a matrix A, best one with A A' the covariance of f, whose inverse is the mass.

  A row of zeros holds its dimension where it is.
  """

  matrix: Float[Array, "dims dims"]


# One scale for all dimensions, one for each, or one of all together.
Scale = Float[Array, "*event"] | float | Factor

Kernel = Callable[[Key[Array, ""], ChainPoint], Move]


@highest_precision()
def point(log_prob: LogProb, x: Float[Array, "chains *event"]) -> ChainPoint:
  """Chains at x."""
  return ChainPoint(x, *value_and_gradient(log_prob, x))


def stretch(scale: Scale, p: Float[Array, "chains *event"]) -> Float[Array, "chains *event"]:
  """Return A p of every chain."""
  if not isinstance(scale, Factor):
    return scale * p
  return jnp.matmul(p.reshape(len(p), -1), scale.matrix.T, precision="highest").reshape(p.shape)


def stretch_transposed(scale: Scale, p: Float[Array, "chains *event"]) -> Float[Array, "chains *event"]:
  """Return A' p of every chain."""
  if not isinstance(scale, Factor):
    return scale * p
  return jnp.matmul(p.reshape(len(p), -1), scale.matrix, precision="highest").reshape(p.shape)


def hmc(log_prob: LogProb, step_size: Float[Array, "*chains"] | float, num_leapfrog: int,
        scale: Scale = 1.0) -> Kernel:
  """Hamiltonian Monte Carlo (Neal, arXiv:1206.1901, section 3): fresh momenta, a leapfrog path, a decision.

  With a scale A the path is that of z with x = A z, which is the same as a mass matrix of (A A')^-1.

  Args:
    log_prob: log f(x) in nats up to a constant.
    step_size: of the leapfrog, in units of `scale`; of all chains, or of each.
    num_leapfrog: leapfrog steps, of a gradient each.
    scale: of each dimension, its spread under f at best (section 4.1), or a factor of their covariance; where it is 0
      nothing moves.
  """
  leapfrog = _leapfrog(log_prob, scale)

  def kernel(key, at):
    momentum_key, accept_key = jax.random.split(key)
    momentum = jax.random.normal(momentum_key, at.x.shape, at.x.dtype)
    state = (at, momentum)
    there, end = (leapfrog(state, step_size)[0] if num_leapfrog == 1
                  else jax.lax.scan(leapfrog, state, _repeated(step_size, jnp.ones(num_leapfrog, at.x.dtype)))[0])
    return _accept(accept_key, at, there, there.value - _kinetic(end) - at.value + _kinetic(momentum))

  return kernel


def hmc_move(key: Key[Array, ""], x: Float[Array, "chains *event"], log_prob: LogProb,
             step_size: Float[Array, "*chains"] | float, num_leapfrog: int,
             scale: Scale = 1.0) -> tuple[Float[Array, "chains *event"], Float[Array, " chains"]]:
  """Return the chains after one move of `hmc`, and its acceptance, where neither log f nor its gradient is known yet.

  It is the kernel's own move, with the gradient in one place of the program, which then compiles in half the time.
  """
  momentum_key, accept_key = jax.random.split(key)
  momentum = jax.random.normal(momentum_key, x.shape, x.dtype)
  leapfrog = _leapfrog(log_prob, scale)

  def step(state, size):
    state, _ = leapfrog(state, size)
    return state, state[0].value

  # A first step of size 0 finds the gradient at the start.
  nowhere = ChainPoint(x, jnp.zeros(len(x), x.dtype), jnp.zeros_like(x))
  sizes = _repeated(step_size, jnp.ones(num_leapfrog + 1, x.dtype).at[0].set(0.0))
  (there, end), values = jax.lax.scan(step, (nowhere, momentum), sizes)
  at = nowhere._replace(value=values[0])
  moved = _accept(accept_key, at, there, there.value - _kinetic(end) - at.value + _kinetic(momentum))
  return moved.at.x, moved.acceptance


def mixed_steps(key: Key[Array, ""], num: int, step_size: Float[Array, ""]) -> Float[Array, " chains"]:
  """Return a step size for each of `num` chains: most a little shorter than `step_size`, one in four by far.

  The former lets no path close upon itself, as all of one length would on some Gaussian (Neal, section 3.2). The latter
  moves chains in places that are narrower than most of f, such as a funnel's neck or the smaller of two modes, where a
  step that suits the rest is always rejected. Drawn without regard to where chains are, they leave f as it is.
  """
  u = jax.random.uniform(key, (num,), jnp.result_type(float))
  usual = 1.0 - SHORT_SHARE
  share = jnp.where(u < usual, 0.8 + 0.2 * u / usual, jnp.power(SHORTEST, (u - usual) / SHORT_SHARE))
  return share * step_size


def _leapfrog(log_prob: LogProb, scale: Scale) -> Callable:
  """(a point and a momentum, a step size) -> those after the step, for a scan."""

  def step(state, size):
    at, p = state
    size = jnp.reshape(size, (-1, *(1,) * (p.ndim - 1)))
    p = p + 0.5 * size * stretch_transposed(scale, at.gradient)
    at = point(log_prob, at.x + size * stretch(scale, p))
    return (at, p + 0.5 * size * stretch_transposed(scale, at.gradient)), None

  return step


def mala(log_prob: LogProb, step_size: Float[Array, ""] | float, scale: Scale = 1.0) -> Kernel:
  """Return the Metropolis-adjusted Langevin algorithm (Roberts and Tweedie, 1996): a Langevin step, accepted or not.

  Its proposal is that of gdm/inference/langevin.py with the same step size. It is Hamiltonian Monte Carlo of a single
  leapfrog step of sqrt(2 e) (Neal, section 5.2), and is computed so: the ratio of proposals needs no division by scale.
  """
  return hmc(log_prob, jnp.sqrt(2.0 * jnp.asarray(step_size, jnp.result_type(float))), 1, scale)


def unadjusted(log_prob: LogProb, step_size: Float[Array, ""] | float, temperature: Float[Array, ""] | float = 1.0,
               scale: Float[Array, "*event"] | float = 1.0) -> Kernel:
  """Return the same proposals, never rejected, and so with a bias: a step of gdm/inference/langevin.py."""

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


def _repeated(step_size: Float[Array, "*chains"] | float, times: Float[Array, " steps"]) -> Float[Array, "steps _"]:
  """Step sizes of every leapfrog step, of all chains or of each."""
  return times[:, None] * jnp.reshape(jnp.asarray(step_size, times.dtype), (1, -1))


def _kinetic(momentum: Float[Array, "chains *event"]) -> Float[Array, " chains"]:
  return 0.5 * jnp.sum(jnp.square(momentum), axis=tuple(range(1, momentum.ndim)))


def _accept(key: Key[Array, ""], at: ChainPoint, there: ChainPoint, log_ratio: Float[Array, " chains"]) -> Move:
  divergent = ~jnp.isfinite(log_ratio)
  # From where f is 0 anywhere finite is better, and a ratio of plus infinity says so.
  acceptance = jnp.where(divergent & ~jnp.isposinf(log_ratio), 0.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))
  accepted = jax.random.bernoulli(key, acceptance)
  kept = jax.tree.map(lambda new, old: jnp.where(accepted.reshape(-1, *(1,) * (old.ndim - 1)), new, old), there, at)
  return Move(kept, acceptance, divergent & jnp.isfinite(at.value))
