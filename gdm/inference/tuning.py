"""Temperatures, step sizes and mass matrices of annealing, by a pilot run with chains of its own. Knows no model.

Annealing's weights mean something only for kernels that do not depend on the chains which they move. So what is adapted
is adapted here, on a pilot's chains, and stays fixed in every run that follows. The pilot is an adaptive sequential
Monte Carlo sampler (Jasra et al., 2011; Buchholz, Chopin and Jacob, arXiv:1808.07730), whose chains stay near f_beta
where annealing without resampling would lag behind. On each of its rungs:

1. The next temperature is the one at which the chains' weights are worth half of the chains.
2. The chains are resampled. Their covariance is the inverse mass matrix.
3. They take a few moves of Hamiltonian Monte Carlo; after each, step size and covariance are adapted.

f_beta must be a geometric path: log f_beta = (1 - beta) log f_0 + beta log f_1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from gdm.inference import metropolis
from gdm.inference.metropolis import Factor, Scale
from gdm.inference.sequential_monte_carlo import effective_share, normalized, resampled, select
from gdm.precision import highest_precision

NUM_CHAINS = 128  # of a pilot
NUM_MOVES = 3  # of each chain on a rung
MAX_RUNGS = 64  # of a pilot; the last are wider apart where these do not reach the target
DENSE_DIMS = 256  # dimensions up to which the mass matrix is dense; above, it is diagonal
SHARE = 0.5  # what weights are worth, as a share of the chains, after a step of temperature
TARGET_ACCEPTANCE = 0.8  # within a few percent, where a gradient buys most (Betancourt et al., arXiv:1411.6669)
STEP_GAIN = 1.5  # log step size per acceptance above its target
JITTER = 1e-6  # added to correlations' diagonal, in single precision
LARGEST_RATIO = 50.0  # of a rung's temperatures' density at its ends

LogDensity = Callable[[Float[Array, "chains *event"], Float[Array, ""]], Float[Array, " chains"]]


class Tuning(NamedTuple):
  """The result of a pilot, a row for each of its rungs; the rows after the last are as the last.

  Attributes:
    betas: inverse temperatures, from 0 to 1.
    lengths: thermodynamic length from 0 to each: the standard deviations of the log-weights of all steps, summed.
    deviations: standard deviation of log f_1 - log f_0 under f_beta: thermodynamic length per beta.
    step_sizes: of the leapfrog, in units of the scale.
    scales: deviation of every dimension, or a factor of the covariance of all.
    num_rungs: rungs in use.
  """

  betas: Float[Array, " rungs"]
  lengths: Float[Array, " rungs"]
  deviations: Float[Array, " rungs"]
  step_sizes: Float[Array, " rungs"]
  scales: Float[Array, "rungs dims"] | Float[Array, "rungs dims dims"]
  num_rungs: Int[Array, ""]

  def ladder(self, num_temperatures: int) -> Float[Array, " temperatures"]:
    """`num_temperatures` steps from 0 to 1 of the same thermodynamic length, which spreads the weights least."""
    even = jnp.linspace(0.0, self.lengths[-1], num_temperatures + 1)
    above = jnp.clip(jnp.searchsorted(self.lengths, even), 1, jnp.maximum(self.num_rungs - 1, 1))
    share = _share(even, self.lengths[above - 1], self.lengths[above])
    # Between two rungs the deviation changes by a constant factor, as where f_beta only grows narrower.
    ratio = self.deviations[above - 1] / jnp.maximum(self.deviations[above], jnp.finfo(even.dtype).tiny)
    log_ratio = jnp.log(jnp.clip(ratio, 1.0 / LARGEST_RATIO, LARGEST_RATIO))
    bent = jnp.abs(log_ratio) > 1e-3
    safe = jnp.where(bent, log_ratio, 1.0)
    share = jnp.where(bent, jnp.expm1(safe * share) / jnp.expm1(safe), share)
    betas = self.betas[above - 1] + share * (self.betas[above] - self.betas[above - 1])
    return betas.at[0].set(0.0).at[-1].set(1.0)

  def kernel_at(self, beta: Float[Array, ""], event: tuple[int, ...]) -> tuple[Float[Array, ""], Scale]:
    """Step size and scale at a temperature: between those of the rungs on either side."""
    above = jnp.clip(jnp.searchsorted(self.betas, beta), 1, len(self.betas) - 1)
    share = _share(beta, self.betas[above - 1], self.betas[above])

    def between(values):
      return (1.0 - share) * values[above - 1] + share * values[above]

    scale = between(self.scales)
    return between(self.step_sizes), Factor(scale) if scale.ndim == 2 else scale.reshape(event)


@highest_precision()
def tune(log_density: LogDensity, x: Float[Array, "groups chains *event"], spread: Float[Array, "*event"],
         key: Key[Array, ""], *, num_leapfrog: int, longest_step: float) -> Tuning:
  """Run a pilot; pure, one compiled loop over its rungs.

  Args:
    log_density: (x, beta) -> log f_beta of all chains, group after group, in nats.
    x: where chains start, near f_0. Those of a group share a target; where every example has a target of its own, as in
      completions, it has a group of its own, and the covariance is that within groups.
    spread: of every dimension under f_0, a first guess; where it is 0 nothing moves.
    key: of the pilot.
    num_leapfrog: leapfrog steps of a move.
    longest_step: the longest step size, in units of the scale.
  """
  groups, each, *event = x.shape
  spread = jnp.broadcast_to(spread, tuple(event)).reshape(-1)
  dense = spread.size <= DENSE_DIMS
  # What a covariance of few draws cannot know is taken from the rung before, which counts as so many draws.
  weight_before = 0.5 * spread.size if dense else 1.0

  def flat(x):
    return x.reshape(groups * each, *event)

  def move(index, state):
    x, log_step, seen, rung = state
    scale = _scale(_blended(seen, rung.covariance, weight_before), spread > 0)
    step_key, move_key = jax.random.split(rung.keys[index])
    steps = metropolis.mixed_steps(step_key, groups * each, jnp.exp(log_step))
    moved, acceptance = metropolis.hmc_move(move_key, flat(x), lambda x: log_density(x, rung.beta), steps, num_leapfrog,
                                            Factor(scale) if dense else scale.reshape(tuple(event)))
    longer = log_step + STEP_GAIN * (jnp.mean(acceptance) - TARGET_ACCEPTANCE)
    x = moved.reshape(x.shape)
    # What was seen before the chains came to rest here counts less and less.
    seen = _merged(seen._replace(num=0.5 * seen.num), _moments(x, jnp.full((groups, each), 1.0 / each), dense))
    return x, jnp.minimum(longer, jnp.log(longest_step)), seen, rung

  def climb(state):
    index, x, log_step, covariance, tuning = state
    beta, length = tuning.betas[-1], tuning.lengths[-1]
    gap = (log_density(flat(x), jnp.ones(())) - log_density(flat(x), jnp.zeros(()))).reshape(groups, each)
    next_beta = jnp.where(index == 0, 0.0, _next_beta(gap, beta, MAX_RUNGS - index))
    weights = normalized((next_beta - beta) * gap)
    # Weights whose logarithms deviate by s are worth exp(-s^2) of the chains.
    length = length + jnp.where(index == 0, 0.0, jnp.sqrt(1e-6 - jnp.log(jnp.mean(effective_share(weights)))))

    resample_key, *move_keys = jax.random.split(jax.random.fold_in(key, index), NUM_MOVES + 1)
    seen = _moments(x, weights, dense)
    x = select(x, resampled(resample_key, weights))
    rung = _Rung(next_beta, covariance, jnp.stack(move_keys))
    x, log_step, seen, _ = jax.lax.fori_loop(0, NUM_MOVES, move, (x, log_step, seen, rung))
    covariance = _blended(seen, covariance, weight_before)
    row = next_beta, length, _deviation(gap, weights), jnp.exp(log_step), _scale(covariance, spread > 0)
    from_here = jnp.arange(MAX_RUNGS) >= index
    betas, lengths, deviations, step_sizes, scales = (
        jnp.where(from_here.reshape(-1, *(1,) * jnp.ndim(value)), value, held)
        for value, held in zip(row, tuning[:-1], strict=True))
    return index + 1, x, log_step, covariance, Tuning(betas, lengths, deviations, step_sizes, scales, index + 1)

  def unfinished(state):
    index, *_, tuning = state
    return (tuning.betas[-1] < 1.0) & (index < MAX_RUNGS)

  first = jnp.diag(jnp.square(spread)) if dense else jnp.square(spread)
  zeros = jnp.zeros(MAX_RUNGS, x.dtype)
  blank = Tuning(zeros, zeros, zeros, zeros, jnp.zeros((MAX_RUNGS, *first.shape), x.dtype), jnp.zeros((), jnp.int32))
  start = jnp.zeros((), jnp.int32), x, jnp.log(jnp.asarray(longest_step, x.dtype)), first, blank
  return jax.lax.while_loop(unfinished, climb, start)[-1]


class _Rung(NamedTuple):
  """A temperature, the covariance at the one before, and a key for each move."""

  beta: Float[Array, ""]
  covariance: Array
  keys: Key[Array, " moves"]


class _Seen(NamedTuple):
  """A covariance within groups, or its diagonal, and how many draws it is worth."""

  covariance: Array
  num: Float[Array, ""]


def _moments(x: Float[Array, "groups chains *event"], weights: Float[Array, "groups chains"], dense: bool) -> _Seen:
  x = x.reshape(*x.shape[:2], -1)
  centred = (x - jnp.sum(weights[..., None] * x, axis=1, keepdims=True)).reshape(-1, x.shape[-1])
  weighted = weights.reshape(-1, 1) * centred
  total = jnp.matmul(weighted.T, centred, precision="highest") if dense else jnp.sum(weighted * centred, axis=0)
  squares = jnp.sum(jnp.square(weights), axis=1)
  # A group's own mean takes away a share of its squares, and one draw.
  return _Seen(total / jnp.maximum(jnp.sum(1.0 - squares), 1e-6), jnp.sum(1.0 / squares - 1.0))


def _merged(one: _Seen, other: _Seen) -> _Seen:
  num = one.num + other.num
  total = one.num * one.covariance + other.num * other.covariance
  return _Seen(total / jnp.maximum(num, 1e-6), num)


def _blended(seen: _Seen, before: Array, weight: float) -> Array:
  return (seen.num * seen.covariance + weight * before) / (seen.num + weight)


def _scale(covariance: Array, free: Bool[Array, " dims"]) -> Array:
  """Deviations, or a Cholesky factor: of the correlations, which are all of one size, times the deviations."""
  if covariance.ndim == 1:
    return jnp.where(free, jnp.sqrt(covariance), 0.0)
  deviation = jnp.sqrt(jnp.diagonal(covariance))
  inverse = jnp.where(deviation > 0, 1.0 / jnp.where(deviation > 0, deviation, 1.0), 0.0)
  eye = jnp.eye(len(covariance), dtype=covariance.dtype)
  correlation = jnp.where(eye > 0, 1.0 + JITTER, inverse[:, None] * covariance * inverse)
  factor = jnp.linalg.cholesky(correlation)
  return jnp.where(free, deviation, 0.0)[:, None] * jnp.where(jnp.all(jnp.isfinite(factor)), factor, eye)


def _next_beta(gap: Float[Array, "groups chains"], beta: Float[Array, ""], left: Int[Array, ""]) -> Float[Array, ""]:
  """Find where the weights are worth their share, by bisection; farther where only `left` rungs remain."""
  rest = jnp.log1p(-beta)

  def is_worth(log_step):
    return jnp.mean(effective_share(normalized(jnp.exp(log_step) * gap))) >= SHARE

  def halve(_, ends):
    low, high = ends
    middle = 0.5 * (low + high)
    return jnp.where(is_worth(middle), middle, low), jnp.where(is_worth(middle), high, middle)

  low, _ = jax.lax.fori_loop(0, 40, halve, (rest - 60.0, rest))
  found = jnp.where(is_worth(rest), 1.0, beta + jnp.exp(low))
  # By equal factors the rungs that are left would reach 1.
  return jnp.minimum(1.0, jnp.maximum(found, jnp.power(beta, 1.0 - 1.0 / left)))


def _deviation(values: Float[Array, "groups chains"], weights: Float[Array, "groups chains"]) -> Float[Array, ""]:
  """Weighted standard deviation within groups, of what is finite."""
  weights = jnp.where(jnp.isfinite(values), weights, 0.0)
  values = jnp.where(jnp.isfinite(values), values, 0.0)
  mean = jnp.sum(weights * values, axis=1, keepdims=True)
  return jnp.sqrt(jnp.mean(jnp.sum(weights * jnp.square(values - mean), axis=1)))


def _share(value: Float[Array, "*shape"], low: Float[Array, "*shape"], high: Float[Array, "*shape"]):
  """Return how far a value is from `low` to `high`; all the way where these are one."""
  width = high - low
  return jnp.where(width > 0, (value - low) / jnp.where(width > 0, width, 1.0), 1.0)
