"""Annealed importance sampling: log Z from below, and the log-probability of given examples from below.

A path of unnormalized log-densities log f_beta leads from a base, f_0, whose log Z_0 is known and which can be drawn
from, to the target, f_1. Knows no model: a path is four functions.

- Forward (Neal, arXiv:physics/9803008): chains from the base to the target; the mean of their weights is an unbiased
  estimate of Z, so its logarithm is below log Z on average, and log f_1(x) minus it above log p(x).
- Backward (RAISE: Burda, Grosse and Salakhutdinov, arXiv:1412.8566): chains from an example back to the base; the mean
  of their weights is an unbiased estimate of p_ann(x), the probability that the forward chain ends at x. p_ann is a
  distribution with a sampler, and tends to p as temperatures are added. The logarithm is below log p_ann(x) on average
  for each x. It is below log p on average over draws from p; for a single x, p_ann may exceed p.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.core import Tracer
from jaxtyping import Array, Float, Key, Num

from gdm.errors import ConfigError
from gdm.precision import highest_precision

# Of the default ladder. A sharper sigmoid, as Grosse, Maddison and Salakhutdinov (2013) use, was wider by a fifth to a
# half between its bounds on trained RBMs of adult, dna and mushrooms, where the base stands near the data already.
SHARPNESS = 1.0

Transition = Callable[[Key[Array, ""], Num[Array, "chains *event"], Float[Array, ""]], Num[Array, "chains *event"]]
MeasuredTransition = Callable[[Key[Array, ""], Num[Array, "chains *event"], Float[Array, ""]],
                              tuple[Num[Array, "chains *event"], Float[Array, " chains"]]]


@dataclasses.dataclass(frozen=True)
class Path:
  """A path from a base to a target.

  Attributes:
    log_density: (x, beta) -> log f_beta(x) [chains], in nats.
    transition: (key, x, beta) -> x: a Markov kernel that leaves f_beta as it is.
    sample_base: (key, num) -> exact draws from the base.
    log_base_normalizer: log Z_0, in nats.
    reversal: the time reversal of `transition` under f_beta; None where that is `transition` itself.
    measured: `transition` with the probability at which each proposal was accepted; None where none is ever rejected.
    ladder: (number of steps) -> temperatures from 0 to 1 that suit this path; None for those of the function `ladder`.
  """

  log_density: Callable[[Num[Array, "chains *event"], Float[Array, ""]], Float[Array, " chains"]]
  transition: Transition
  sample_base: Callable[[Key[Array, ""], int], Num[Array, "chains *event"]]
  log_base_normalizer: Float[Array, ""]
  reversal: Transition | None = None
  measured: MeasuredTransition | None = None
  ladder: Callable[[int], Float[Array, " rungs"]] | None = None

  def move(self, key: Key[Array, ""], x: Num[Array, "chains *event"],
           beta: Float[Array, ""]) -> tuple[Num[Array, "chains *event"], Float[Array, " chains"]]:
    """Return the chains after a transition, and the probability with which each proposal was accepted."""
    if self.measured is not None:
      return self.measured(key, x, beta)
    return self.transition(key, x, beta), jnp.ones(len(x), jnp.result_type(float))


class Annealed(NamedTuple):
  """Chains at the target.

  Attributes:
    x: the chains.
    log_weights: of each, log Z_0 included; the mean weight estimates Z.
    acceptance: the probability with which each proposal was accepted, at every temperature but the first.
  """

  x: Num[Array, "chains *event"]
  log_weights: Float[Array, " chains"]
  acceptance: Float[Array, "rungs chains"]


class Estimate(NamedTuple):
  """log Z from log-weights.

  Attributes:
    nats: log of the mean weight, on average below log Z by about stderr^2 / 2.
    stderr: its standard error by the delta method: the relative standard error of the mean weight.
    interval: lower and upper end for log Z, see `estimate`.
    effective_sample_size: (sum w)^2 / sum w^2, of 1 to all chains.
  """

  nats: Float[Array, ""]
  stderr: Float[Array, ""]
  interval: Float[Array, "2"]
  effective_sample_size: Float[Array, ""]


def ladder(num_temperatures: int, sharpness: float = SHARPNESS) -> Float[np.ndarray, " rungs"]:
  """`num_temperatures` steps from 0 to 1 along a sigmoid, denser at both ends; evenly spaced for sharpness 0."""
  if num_temperatures < 1:
    raise ConfigError(f"num_temperatures is {num_temperatures}; annealing needs at least 1.")
  even = np.linspace(0.0, 1.0, num_temperatures + 1)
  if sharpness == 0:
    return even
  rise = np.tanh(0.5 * sharpness * (2.0 * even - 1.0))
  betas = (rise - rise[0]) / (rise[-1] - rise[0])
  betas[-1] = 1.0
  return betas


def ladder_of(path: Path, num_temperatures: int) -> Float[Array | np.ndarray, " rungs"]:
  """`num_temperatures` steps from 0 to 1: the path's own ladder, where it has one. Raise ConfigError for none."""
  usual = ladder(num_temperatures)
  return usual if path.ladder is None else path.ladder(num_temperatures)


def check_ladder(betas: Float[Array | np.ndarray, " rungs"]) -> None:
  """Raise a ConfigError unless the temperatures rise from 0, the base, to 1, the target.

  A ladder that is computed while compiling, as by a pilot run, is taken as it is.
  """
  if isinstance(betas, Tracer):
    return
  betas = np.asarray(betas)
  if betas.ndim != 1 or len(betas) < 2:
    raise ConfigError(f"betas has shape {betas.shape}; a ladder is a list of at least 2 inverse temperatures.")
  if betas[0] != 0:
    raise ConfigError(f"betas[0] is {betas[0]:g}; temperatures must start at the base, beta 0, whose log Z is known.")
  if betas[-1] != 1:
    raise ConfigError(f"betas[{len(betas) - 1}] is {betas[-1]:g}; temperatures must end at the target, beta 1.")
  for i in np.flatnonzero(~(np.diff(betas) > 0))[:1]:
    raise ConfigError(f"betas[{i + 1}] is {betas[i + 1]:g} after {betas[i]:g}; temperatures must increase.")


@highest_precision()
def forward(path: Path, betas: Float[Array | np.ndarray, " rungs"], key: Key[Array, ""], num_chains: int) -> Annealed:
  """Anneal `num_chains` chains from the base to the target; pure, one compiled loop over temperatures.

  Raise ConfigError unless the ladder leads from 0 to 1.
  """
  check_ladder(betas)
  base_key, key = jax.random.split(key)

  def step(state, rung):
    x, log_weight = state
    index, before, beta = rung
    log_weight = log_weight + log_growth(path, x, before, beta)
    # The last transition changes no weight, but makes x a draw of the distribution that `backward` scores.
    x, acceptance = path.move(jax.random.fold_in(key, index), x, beta)
    return (x, log_weight), acceptance

  start = path.sample_base(base_key, num_chains)
  (x, log_weights), acceptance = jax.lax.scan(step, (start, jnp.zeros(num_chains)), rungs_of(betas))
  return Annealed(x, log_weights + path.log_base_normalizer, acceptance)


@highest_precision()
def backward(path: Path, betas: Float[Array | np.ndarray, " rungs"], key: Key[Array, ""],
             x: Num[Array, "batch *event"]) -> Float[Array, " batch"]:
  """Anneal a chain from each example back to the base; pure, one compiled loop over temperatures.

  Returns:
    Log-weights in nats; the mean weight of an example, over keys, is p_ann(x) (arXiv:1412.8566, section 3).

  Raise ConfigError unless the ladder leads from 0 to 1.
  """
  check_ladder(betas)
  transition = path.reversal or path.transition

  def step(state, rung):
    x, log_weight = state
    index, before, beta = rung
    x = transition(jax.random.fold_in(key, index), x, beta)
    growth = log_growth(path, x, before, beta)
    # A chain is where f is 0 only if its example was, whose weight is 0 already.
    return (x, log_weight - jnp.where(jnp.isneginf(growth), 0.0, growth)), None

  start = path.log_density(x, jnp.ones(())) - path.log_base_normalizer
  (_, log_weights), _ = jax.lax.scan(step, (x, start), rungs_of(betas), reverse=True)
  return log_weights


def log_growth(path: Path, x: Num[Array, "chains *event"], before: Float[Array, ""],
               beta: Float[Array, ""]) -> Float[Array, " chains"]:
  """Return log f_beta(x) - log f_before(x) in nats, -inf where f_beta is 0, as of a target that is bounded."""
  now = path.log_density(x, beta)
  return jnp.where(jnp.isneginf(now), now, now - path.log_density(x, before))


def lower_bound(path: Path, betas: Float[Array | np.ndarray, " rungs"], key: Key[Array, ""],
                x: Num[Array, "batch *event"], num_samples: int = 1) -> Float[Array, " batch"]:
  """Return a stochastic lower bound of log p_ann(x), in nats: the log of the mean weight of `num_samples` chains
  each."""
  log_weights = backward(path, betas, key, jnp.concatenate([x] * num_samples))
  return jax.nn.logsumexp(log_weights.reshape(num_samples, -1), axis=0) - jnp.log(num_samples)


def estimate(log_weights: Float[Array, " chains"], confidence: float = 0.95) -> Estimate:
  """Return log Z, its standard error, and an interval.

  The interval is the hull of two. One is the delta method's, log of the mean weight plus or minus z standard errors,
  which is too low where few chains carry the weight. The other takes the log-weights, sums over many temperatures, for
  normal with mean m and variance s^2, so that log Z = m + s^2 / 2, plus or minus z sqrt(s^2 / n + s^4 / (2 (n - 1)))
  (Cox's method; Zhou and Gao, 1997): it knows of the weight that no chain has found. Chains of weight 0, as where the
  target is 0 or a part of Z is asked for, have no logarithm: there the others' are taken for normal, and their number
  for binomial. All is -inf where no chain has a weight.

  Raise ConfigError for fewer than 2 chains, whose spread is unknown.
  """
  num = log_weights.shape[0]
  if num < 2:
    raise ConfigError(f"num_chains is {num}; a standard error needs at least 2.")
  counts = ~jnp.isneginf(log_weights)  # NaN stays NaN
  inside = jnp.sum(counts)
  nats = jax.nn.logsumexp(log_weights) - jnp.log(num)
  relative = jnp.exp(log_weights - jnp.where(inside > 0, nats, 0.0))
  stderr = jnp.sqrt(jnp.var(relative, ddof=1) / num)
  logs = jnp.where(counts, log_weights, 0.0)
  mean = jnp.sum(logs) / jnp.maximum(inside, 1)
  variance = jnp.sum(jnp.where(counts, jnp.square(logs - mean), 0.0)) / jnp.maximum(inside - 1, 1)
  share = jnp.maximum(inside, 1) / num
  centre = mean + 0.5 * variance + jnp.log(share)
  spread = (variance / jnp.maximum(inside, 1) + jnp.square(variance) / (2.0 * jnp.maximum(inside - 1, 1))
            + (1.0 - share) / (share * num))
  z = float(scipy.special.stdtrit(num - 1, 0.5 + 0.5 * confidence))  # few islands of chains are few
  half, middle = z * jnp.stack([stderr, jnp.sqrt(spread)]), jnp.stack([nats, jnp.where(inside > 1, centre, nats)])
  interval = jnp.stack([jnp.min(middle - half), jnp.max(middle + half)])
  size = jnp.square(jnp.sum(relative)) / jnp.maximum(jnp.sum(jnp.square(relative)), jnp.finfo(relative.dtype).tiny)
  return Estimate(nats, stderr, jnp.where(inside > 0, interval, -jnp.inf), size)


def rungs_of(betas: Float[Array | np.ndarray, " rungs"]) -> tuple[Array, Array, Array]:
  """Return for each step its index, the beta before it, and its beta."""
  betas = jnp.asarray(betas, jnp.result_type(float))
  return jnp.arange(len(betas) - 1), betas[:-1], betas[1:]
