"""Chains of an unnormalized density of real numbers: draws, completions and clean examples, by annealing and HMC."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from gdm.inference import annealed_importance as annealing
from gdm.inference import langevin, metropolis, sequential_monte_carlo, tuning
from gdm.inference.diagnostics import MIN_ACCEPTANCE
from gdm.inference.sequential_monte_carlo import effective_share, normalized
from gdm.inference.watched import watch
from gdm.model import Params

PILOT_SEED = 0  # of every pilot that starts at the base
MAX_GROUPS = 16  # targets that a pilot looks at, where each example is a target of its own
# Of a Gaussian about states: how much wider it is, and the least width in units of the model's spread.
WIDER, LEAST_WIDTH = 1.25, 1e-3
PROPOSALS = 64  # of neighbouring temperatures, at least, whose acceptance is averaged before the least is looked for

# -log f of values [batch, *event] in nats.
Energy = Callable[[Array], Array]


class PathBase(NamedTuple):
  """The start of a path, of standardized values.

  Attributes:
    log_prob: its log-density in nats, normalized.
    sample: (key, num) -> draws.
    spread: deviation of every dimension.
  """

  log_prob: Callable[[Array], Array]
  sample: Callable[[Key[Array, ""], int], Array]
  spread: Float[Array, "*event"]


class Moves(NamedTuple):
  """Settings of the chains' moves.

  Attributes:
    num_temperatures: steps between the base and the model.
    num_chains: the least number of chains that are resampled together.
    longest_step: of a leapfrog step, in deviations of the density.
    num_leapfrog: leapfrog steps of a move.
    langevin_step: of a Langevin step, in units of each dimension's variance.
    langevin_noise: of an unadjusted Langevin step; 1 samples the density itself.
  """

  num_temperatures: int
  num_chains: int
  longest_step: float
  num_leapfrog: int
  langevin_step: float
  langevin_noise: float


class Target(NamedTuple):
  """A density that chains are drawn from, of standardized values.

  Attributes:
    energy: (a condition of each chain or None) -> the energy.
    condition: of the draws that are asked for.
    base: where the path begins.
    spread: deviation of every dimension.
    chains: the replay buffer [chains, *event]; None for none.
    moves: how chains move.
  """

  energy: Callable[[Array | None], Energy]
  condition: Array | None
  base: PathBase
  spread: Float[Array, "*event"]
  chains: Float[Array, "chains *event"] | None
  moves: Moves

  def bridge(self, condition: Array | None = None, temperature: Float[Array, ""] | float = 1.0,
             base: PathBase | None = None) -> tuning.LogDensity:
    """(u, beta) -> log f_beta(u) in nats, the geometric path from a base to the model at a temperature."""
    energy, start = self.energy(condition), base or self.base

    def log_density(u, beta):
      # At the base an energy that is infinite, as beyond the edge of a bounded density, counts for nothing.
      return (1.0 - beta) * start.log_prob(u) - jnp.where(beta > 0, beta / temperature * energy(u), 0.0)

    return log_density


# By name: (target, log f, scale of each dimension, a pilot's result at log f) -> a kernel of log f.
KERNELS: Mapping[str, Callable[[Target, langevin.LogProb, Array, Callable[[], tuning.Tuning]], metropolis.Kernel]] = {
    "langevin": lambda target, log_prob, scale, tuned: metropolis.unadjusted(
        log_prob, target.moves.langevin_step, target.moves.langevin_noise**2, scale),
    "mala": lambda target, log_prob, scale, tuned: metropolis.mala(log_prob, target.moves.langevin_step, scale),
    "hmc": lambda target, log_prob, scale, tuned: _hmc(target, log_prob, tuned()),
}


def gaussian_base(base: Params) -> PathBase:
  """Return independent Gaussians at the data's moments: "mean" and "deviation" of every standardized dimension."""
  mean, deviation = base["mean"], base["deviation"]
  return PathBase(lambda u: _total(jax.scipy.stats.norm.logpdf(u, mean, deviation)),
              lambda key, num: mean + deviation * jax.random.normal(key, (num, *mean.shape), mean.dtype), deviation)


def gaussian_about(u: Float[Array, "states *event"], weights: Float[Array, " states"],
                   spread: Float[Array, "*event"]) -> PathBase:
  """Return a Gaussian of independent dimensions about weighted states, a little wider than these.

  The spread of all the model counts as one state's, by logarithms: from a base far wider than a narrow mode annealing
  would seldom come into it.
  """
  total = jnp.sum(weights)
  mean = jnp.tensordot(weights, u, 1) / jnp.maximum(total, 1.0)
  variance = jnp.tensordot(weights, jnp.square(u - mean), 1) / jnp.maximum(total - 1.0, 1.0)
  share = 1.0 / (total + 1.0)
  deviation = WIDER * spread * jnp.sqrt(variance / jnp.square(spread) + LEAST_WIDTH**2) ** (1.0 - share)
  return PathBase(lambda u: _total(jax.scipy.stats.norm.logpdf(u, mean, deviation)),
              lambda key, num: mean + deviation * jax.random.normal(key, (num, *mean.shape), mean.dtype), deviation)


def tune(target: Target, temperature: Float[Array, ""] | float = 1.0, base: PathBase | None = None) -> tuning.Tuning:
  """Return kernels and temperatures of annealing, by a pilot from a base, the target's own for None.

  The pilot's key is always the same, so that draws, log Z and each example's score are of one and the same annealed
  sampler, which is a function of the parameters.
  """
  start, condition = base or target.base, target.condition
  base_key, key = jax.random.split(jax.random.key(PILOT_SEED))
  rows = jnp.zeros(1, int) if condition is None else _spread_over(len(condition))
  each = tuning.NUM_CHAINS // len(rows)
  condition = None if condition is None else jnp.repeat(condition[rows], each, axis=0)
  u = start.sample(base_key, len(rows) * each).reshape(len(rows), each, *target.spread.shape)
  return _tuned(target, target.bridge(condition, temperature, start), u, start.spread, key)


def tuned_path(target: Target, tuned: tuning.Tuning, temperature: Float[Array, ""] | float = 1.0,
               base: PathBase | None = None) -> annealing.Path:
  """Return the path from a base, the target's own for None, by the kernels and along the temperatures of a pilot."""
  start = base or target.base
  log_density = target.bridge(target.condition, temperature, start)

  def measured(key, u, beta):
    return _move(target, key, u, lambda u: log_density(u, beta), tuned, beta)

  return annealing.Path(log_density, lambda key, u, beta: measured(key, u, beta)[0], start.sample, jnp.zeros(()),
                        measured=measured, ladder=tuned.ladder)


def path(target: Target, base: PathBase | None = None) -> annealing.Path:
  """Return the path from a base, the target's own for None, by what a pilot finds."""
  return tuned_path(target, tune(target, base=base), base=base)


def settle(target: Target, key: Key[Array, ""], u: Float[Array, "chains *event"],
           num_steps: int) -> Float[Array, "chains *event"]:
  """Return where chains come to that move at the target itself, each with a step that it finds by itself.

  Modes may be of many widths, which no pilot has seen. Steps that adapt move chains from where they are into a mode,
  and within it, but do not leave f as it is to the last digit: these states are places to look at, no draws.
  """
  energy, moves = target.energy(None), target.moves
  longest = jnp.log(jnp.asarray(moves.longest_step, u.dtype))

  def step(state, index):
    u, log_steps = state
    u, acceptance = metropolis.hmc_move(jax.random.fold_in(key, index), u, lambda u: -energy(u), jnp.exp(log_steps),
                                        moves.num_leapfrog, target.spread)
    longer = log_steps + tuning.STEP_GAIN * (acceptance - tuning.TARGET_ACCEPTANCE)
    return (u, jnp.minimum(longer, longest)), None

  start = u, jnp.full(len(u), longest)
  return jax.lax.scan(step, start, jnp.arange(num_steps))[0][0]


class Started(NamedTuple):
  """Chains at their start, which are to walk at the model itself.

  Attributes:
    u: standardized values.
    info: of how they came there, by name.
    tuned: (log f of the model) -> a pilot's result there.
  """

  u: Array
  info: dict[str, Array]
  tuned: Callable[[langevin.LogProb], tuning.Tuning]


def _from_base(target: Target, key: Key[Array, ""], num: int, temperature: Float[Array, ""]) -> Started:
  tuned = tune(target, temperature)
  betas = tuned.ladder(target.moves.num_temperatures)
  found = annealing.forward(tuned_path(target, tuned, temperature), betas, key, num)
  info = {**acceptance_info(found.acceptance, betas), **pilot_info(target, tuned),
          "effective_sample_size": effective_share(normalized(found.log_weights[None]))[0] * num}
  return Started(found.x, info, lambda log_prob: tuned)


def _by_smc(target: Target, key: Key[Array, ""], num: int, temperature: Float[Array, ""]) -> Started:
  run_key, draw_key = jax.random.split(key)
  tuned = tune(target, temperature)
  betas = tuned.ladder(target.moves.num_temperatures)
  path = tuned_path(target, tuned, temperature)
  swarm = sequential_monte_carlo.run(path, betas, run_key, 1, max(num, target.moves.num_chains))
  info = {**acceptance_info(swarm.acceptance.reshape(len(swarm.acceptance), -1), betas), **pilot_info(target, tuned),
          **swarm_info(swarm)}
  return Started(sequential_monte_carlo.draws(draw_key, swarm, num), info, lambda log_prob: tuned)


def _from_chains(target: Target, key: Key[Array, ""], num: int, temperature: Float[Array, ""]) -> Started:
  assert target.chains is not None
  chains = jax.random.permutation(key, target.chains)

  def tuned(log_prob):  # where the chains are already
    return _tuned(target, lambda u, beta: log_prob(u), chains[None, :tuning.NUM_CHAINS], target.spread,
                  jax.random.key(PILOT_SEED))

  return Started(chains[jnp.arange(num) % len(chains)], {}, tuned)


STARTS: Mapping[str, Callable[[Target, Key[Array, ""], int, Float[Array, ""]], Started]] = {
    "base": _from_base, "smc": _by_smc, "chains": _from_chains}


class ChainDraws(NamedTuple):
  """Draws, and numbers of the sampler by name."""

  u: Float[Array, "num *event"]
  info: dict[str, Array]


def sample(target: Target, key: Key[Array, ""], num: int, num_steps: int, sampler: str, start: str,
           temperature: Float[Array, ""]) -> ChainDraws:
  """Return draws after `num_steps` steps of a kernel of KERNELS from where a start of STARTS puts them."""
  start_key, walk_key = jax.random.split(key)
  started = STARTS[start](target, start_key, num, temperature)
  u, divergent = started.u, jnp.zeros(num, bool)
  info = dict(started.info)
  if num_steps:  # no gradient for a walk of none
    energy = target.energy(target.condition)

    def log_prob(u):
      return -energy(u) / temperature

    scale = jnp.sqrt(temperature) * target.spread
    kernel = KERNELS[sampler](target, log_prob, scale, lambda: started.tuned(log_prob))
    known = [u, *([] if target.chains is None else [target.chains])]
    walked = metropolis.walk(walk_key, u, log_prob, kernel, num_steps, watch(jnp.concatenate(known)))
    u, divergent = walked.x, walked.divergent
    info.update(acceptance=jnp.mean(walked.acceptance), log_density=walked.trace, **walked.watched)
  lost = ~_finite(u)
  return ChainDraws(u, {"divergent": jnp.mean(1.0 * (divergent | lost)), "lost": jnp.mean(1.0 * lost), **info})


def complete(target: Target, keys: Key[Array, "3"], seen: Float[Array, "batch *event"],
             known: Bool[Array, "*event"]) -> ChainDraws:
  """Return draws of what is unknown: from the base, annealed given what is known of `seen`."""
  base_key, pilot_key, key = keys
  log_density, spread = target.bridge(), jnp.where(known, 0.0, target.spread)
  rows = _spread_over(len(seen))
  of_pilot = jnp.repeat(seen[rows], tuning.NUM_CHAINS // len(rows), axis=0)
  start = jnp.where(known, jnp.concatenate([seen, of_pilot]),
                    target.base.sample(base_key, len(seen) + len(of_pilot)))
  pilot = start[len(seen):].reshape(len(rows), -1, *target.spread.shape)
  tuned = _tuned(target, log_density, pilot, spread, pilot_key)
  return _annealed(target, log_density, start[:len(seen)], tuned, key)


def denoise(target: Target, key: Key[Array, ""], seen: Float[Array, "batch *event"],
            noise: Float[Array, "..."]) -> ChainDraws:
  """Return draws of what `seen` was before normal noise of deviation `noise`: from `seen`, annealed given it."""
  start_key, pilot_key, key = jax.random.split(key, 3)
  bridge = target.bridge()
  # Where the noise is narrower than the model, it is what confines the chains.
  spread = 1.0 / jnp.sqrt(1.0 / jnp.square(target.spread) + 1.0 / jnp.square(noise))

  def given(seen):
    return lambda u, beta: bridge(u, beta) - 0.5 * _total(jnp.square((seen - u) / noise))

  rows = _spread_over(len(seen))
  of_pilot = jnp.repeat(seen[rows], tuning.NUM_CHAINS // len(rows), axis=0)
  start = of_pilot + spread * jax.random.normal(start_key, of_pilot.shape, of_pilot.dtype)
  tuned = _tuned(target, given(of_pilot), start.reshape(len(rows), -1, *target.spread.shape), spread, pilot_key)
  return _annealed(target, given(seen), seen, tuned, key)


def posterior(target: Target, key: Key[Array, ""], log_likelihood: Callable[[Array, Array], Array],
              rows: Int[Array, " chains"]) -> ChainDraws:
  """Return a draw given the measurement of each row, by the log-likelihood (u, rows) -> [chains]: from the base,
  annealed to the model times the likelihood."""
  base_key, pilot_key, key = jax.random.split(key, 3)
  bridge = target.bridge()

  def given(rows):
    return lambda u, beta: bridge(u, beta) + beta * log_likelihood(u, rows)

  groups = rows[_spread_over(len(rows))]
  of_pilot = jnp.repeat(groups, tuning.NUM_CHAINS // len(groups))
  start = target.base.sample(base_key, len(rows) + len(of_pilot))
  pilot = start[len(rows):].reshape(len(groups), -1, *target.spread.shape)
  tuned = _tuned(target, given(of_pilot), pilot, target.spread, pilot_key)
  return _annealed(target, given(rows), start[:len(rows)], tuned, key)


def _annealed(target: Target, log_density: tuning.LogDensity, u: Array, tuned: tuning.Tuning,
              key: Key[Array, ""]) -> ChainDraws:
  """Return one chain from each u, moved at every temperature."""
  betas = tuned.ladder(target.moves.num_temperatures)

  def step(u, rung):
    index, beta = rung
    return _move(target, jax.random.fold_in(key, index), u, lambda u: log_density(u, beta), tuned, beta)

  u, acceptance = jax.lax.scan(step, u, (jnp.arange(len(betas) - 1), betas[1:]))
  lost = jnp.mean(1.0 * ~_finite(u))
  return ChainDraws(u, {"divergent": lost, "lost": lost, **acceptance_info(acceptance, betas),
                        **pilot_info(target, tuned)})


def _tuned(target: Target, log_density: tuning.LogDensity, u: Array, spread: Array,
           key: Key[Array, ""]) -> tuning.Tuning:
  return tuning.tune(log_density, u, spread, key, num_leapfrog=target.moves.num_leapfrog,
                     longest_step=target.moves.longest_step)


def _hmc(target: Target, log_prob: langevin.LogProb, tuned: tuning.Tuning) -> metropolis.Kernel:
  """Return a kernel at the model itself, of annealing's moves."""
  step_size, scale = tuned.kernel_at(jnp.ones(()), target.spread.shape)

  def kernel(key, at):
    step_key, key = jax.random.split(key)
    steps = metropolis.mixed_steps(step_key, len(at.x), step_size)
    return metropolis.hmc(log_prob, steps, target.moves.num_leapfrog, scale)(key, at)

  return kernel


def _move(target: Target, key: Key[Array, ""], u: Array, log_prob: langevin.LogProb, tuned: tuning.Tuning,
          beta: Float[Array, ""]) -> tuple[Array, Float[Array, " chains"]]:
  """Chains after a move of annealing, and its acceptance."""
  step_size, scale = tuned.kernel_at(beta, target.spread.shape)
  step_key, key = jax.random.split(key)
  steps = metropolis.mixed_steps(step_key, len(u), step_size)
  return metropolis.hmc_move(key, u, log_prob, steps, target.moves.num_leapfrog, scale)


def _spread_over(num: int) -> np.ndarray:
  """Return at most MAX_GROUPS of `num` rows, from the first to the last."""
  return np.linspace(0, num - 1, min(num, MAX_GROUPS)).round().astype(int)


def acceptance_info(acceptance: Float[Array, "rungs chains"], betas: Float[Array, " temperatures"]) -> dict[str, Array]:
  """Return the least acceptance and the share of chains that stood still.

  "least_acceptance" is the least mean over the chains, of as many neighbouring temperatures as make PROPOSALS of them,
  and "least_acceptance_beta" the last of these temperatures; "stuck" the share of chains that accepted less than
  MIN_ACCEPTANCE of the last quarter of their moves, eight at least.
  """
  rungs, num = acceptance.shape
  window = min(rungs, -(-PROPOSALS // num))
  sums = jnp.cumsum(jnp.concatenate([jnp.zeros(1, acceptance.dtype), jnp.mean(acceptance, axis=1)]))
  means = (sums[window:] - sums[:-window]) / window
  last = acceptance[-min(rungs, max(8, rungs // 4)):]
  return {"least_acceptance": jnp.min(means), "least_acceptance_beta": betas[window:][jnp.argmin(means)],
          "stuck": jnp.mean(1.0 * (jnp.mean(last, axis=0) < MIN_ACCEPTANCE))}


def pilot_info(target: Target, tuned: tuning.Tuning) -> dict[str, Array]:
  """"pilot_nfe", gradients of each of a pilot's chains; and "least_path", the shortest of the paths of all moves, in
  deviations of what they move in."""
  nfe = tuned.num_rungs * tuning.NUM_MOVES * (target.moves.num_leapfrog + 1)
  return {"pilot_nfe": nfe, "least_path": target.moves.num_leapfrog * jnp.min(tuned.step_sizes)}


def swarm_info(swarm: sequential_monte_carlo.Swarm) -> dict[str, Array]:
  """"effective_sample_size", the least at any temperature; "resamplings" of an island; and "ancestors", how many of
  the chains at the base have descendants among the last: few of them were found good."""
  num = swarm.weights.shape[1]
  found = jax.vmap(lambda taken: jnp.zeros(num).at[taken].set(1.0))(swarm.ancestors)
  return {"effective_sample_size": jnp.min(jnp.mean(swarm.effective_share, axis=1)) * swarm.weights.size,
          "resamplings": jnp.mean(jnp.sum(swarm.resampled, axis=0)), "ancestors": jnp.sum(found)}


@jax.jit
def farthest(chains: Float[Array, "chains dims"], base: Params,
             margin: Float[Array, ""]) -> tuple[Array, Array, Array, Array]:
  """Return the first chain that is beyond the data's range by `margin` widths or NaN: its index, whether it is, its
  range."""
  low, high = jnp.min(chains, axis=1), jnp.max(chains, axis=1)
  reach = margin * (base["high"] - base["low"])
  out = ~((low >= base["low"] - reach) & (high <= base["high"] + reach))
  index = jnp.argmax(out)
  return index, out[index], low[index], high[index]


def _finite(u: Float[Array, "chains *event"]) -> Bool[Array, " chains"]:
  return jnp.isfinite(u).reshape(len(u), -1).all(axis=1)


def _total(x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  return jnp.sum(x, axis=tuple(range(1, x.ndim)))
