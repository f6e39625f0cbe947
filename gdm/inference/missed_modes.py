"""Modes that annealing from its base never reaches: looked for from elsewhere, and counted in log Z.

Annealing can end in one mode only and say so with a small error: its weights know of nothing else. Chains that start
elsewhere (persistent chains, data, the base's opposite, uniform states) may settle in states that it never visits.
Regions about these, half-spaces, are then annealed to from bases of their own. The parts of Z are added up:

  Z = sum over x outside of f(x) + sum over x inside of f(x), where E[w 1(x inside)] is the second for any base

Of several regions each counts without those before it. The weight w of a chain and its last state x are those of one
run of annealing, so that every part is unbiased where its region was chosen without that run: regions are chosen by a
pilot run with a key of its own. The sum's logarithm is below log Z on average, as a single run's is; the larger of
several runs' would not be.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key, Num

from gdm.inference.annealed_importance import Estimate, Path, estimate
from gdm.precision import highest_precision

MIN_SHARE = 0.01  # of chains from elsewhere that must be in unknown places
MARGIN = 0.1  # where a region begins, between what annealing reaches (0) and the middle of what it does not (1)
MAX_REGIONS = 4
MISSED_DEVIATIONS = 3.0  # by which fewer of annealing's chains are in a region than its share of Z asks for

States = Num[Array, "_ *event"]


class AnnealedRun(NamedTuple):
  """Chains at the target, by one run of annealing.

  Attributes:
    x: the chains, of one unit after the other.
    log_weights: of each, the base's log Z included; a unit's mean weight estimates Z. Units are independent.
    acceptance: the least share of moves that were accepted at any temperature; 1 where none can be rejected.
    worth: how many chains of equal weight would be as good; None where their weights at the end tell.
  """

  x: States
  log_weights: Float[Array, "units chains"]
  acceptance: Float[Array, ""]
  worth: Float[Array, ""] | None = None


class Region(NamedTuple):
  """The half-space x . direction > threshold of flattened states, where `is_there`; nothing where not."""

  direction: Float[Array, " dims"]
  threshold: Float[Array, ""]
  is_there: Bool[Array, ""]

  def holds(self, x: States) -> Bool[Array, " _"]:
    return self.is_there & (_flat(x) @ self.direction > self.threshold)


class Look(NamedTuple):
  """The states that annealing comes to, and those elsewhere.

  Attributes:
    main: annealing from the base.
    settled: states that chains from elsewhere came to.
    regions: about those that annealing does not reach, a leaf's first axis for the region.
    members: which settled states each region is about.
  """

  main: AnnealedRun
  settled: States
  regions: Region
  members: Bool[Array, "regions settled"]

  def region(self, index: int) -> Region:
    return jax.tree.map(lambda leaf: leaf[index], self.regions)


class Found(NamedTuple):
  """log Z with all regions, the share of Z, in [0, 1], that annealing from the base alone does not see, and the least
  acceptance of all runs."""

  log_z: Estimate
  missed: Float[Array, ""]
  acceptance: Float[Array, ""]


@highest_precision()
def look(path: Path, key: Key[Array, ""], starts: Sequence[States], *,
         anneal: Callable[[Path, Key[Array, ""]], AnnealedRun], settle: Callable[[Key[Array, ""], States], States],
         scale: Float[Array, "*event"] | float = 1.0) -> Look:
  """Anneal from the base, and look for places where chains from other starts are and annealing's are not.

  Args:
    path: from the base to the target.
    key: of all runs.
    starts: states where chains start, of several kinds.
    anneal: (path, key) -> a run of annealing along the path.
    settle: (key, states) -> where chains come to that move at the target from these states.
    scale: unit of every dimension, in which distances between states are compared.
  """
  pilot_key, settle_key, main_key = jax.random.split(key, 3)
  # Both in one loop, whose program is compiled once.
  runs = jax.lax.map(lambda key: anneal(path, key), jnp.stack([pilot_key, main_key]))
  pilot, main = (jax.tree.map(lambda leaf, index=index: leaf[index], runs) for index in range(2))
  settled = settle(settle_key, jnp.concatenate(starts).astype(pilot.x.dtype))
  # Where the target is 0, as beyond the edge of a bounded one, there is no mode: such starts stay where they are.
  regions, members, taken = [], [], jnp.isneginf(path.log_density(settled, jnp.ones(())))
  for _ in range(MAX_REGIONS):
    region, about = separate(pilot.x, settled, scale, taken)
    regions.append(region)
    members.append(about)
    taken |= about | region.holds(settled)
  return Look(main, settled, jax.tree.map(lambda *leaves: jnp.stack(leaves), *regions), jnp.stack(members))


@highest_precision()
def log_normalizer(seen: Look, key: Key[Array, ""],
                   anneal_from: Callable[[Key[Array, ""], States, Float[Array, " _"]], AnnealedRun]) -> Found:
  """Estimate log Z by annealing from the base, and to what else chains from other starts come to.

  Args:
    seen: what `look` found.
    key: of further runs.
    anneal_from: (key, states, their weights) -> a run of annealing from a base that is fitted to these states. It is
      asked for regions that are there; and compiled for these alone, where it is compiled and all is known that `look`
      found.
  """
  nothing = jax.tree.map(jnp.zeros_like, seen.main)

  def run_of(index):
    return anneal_from(jax.random.fold_in(key, index), seen.settled, seen.members[index].astype(jnp.result_type(float)))

  if isinstance(seen.regions.is_there, Tracer):
    runs = jax.lax.map(lambda index: jax.lax.cond(seen.regions.is_there[index], lambda: run_of(index), lambda: nothing),
                       jnp.arange(MAX_REGIONS))
  else:
    each = [run_of(index) if there else nothing for index, there in enumerate(np.asarray(seen.regions.is_there))]
    runs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
  return _found(seen, runs)


@jax.jit
def _found(seen: Look, runs: AnnealedRun) -> Found:
  """Return log Z by the parts of all runs."""
  main, is_there = seen.main, seen.regions.is_there
  parts, in_main, before = [], [], []
  for index in range(MAX_REGIONS):
    region, run = seen.region(index), jax.tree.map(lambda leaf, index=index: leaf[index], runs)
    parts.append(_part(run, _first(before, region, run.x)))
    in_main.append(_log_mean(_part(main, _first(before, region, main.x))))
    before.append(region)
  outside = _part(main, ~jnp.any(jnp.stack([region.holds(main.x) for region in before]), axis=0))
  log_z = jax.tree.map(lambda new, old: jnp.where(jnp.any(is_there), new, old), _total([outside, *parts]),
                       estimate(_part(main, jnp.ones(len(main.x), bool))))

  inside = jnp.exp(jnp.stack([_log_mean(part) for part in parts]) - log_z.nats)
  unseen = inside - jnp.exp(jnp.stack(in_main) - log_z.nats)
  # Few chains in a region of a small share are chance.
  is_missed = unseen > MISSED_DEVIATIONS * jnp.sqrt(inside / main.log_weights.size)
  missed = jnp.clip(jnp.sum(jnp.where(is_missed, unseen, 0.0)), 0.0, 1.0)

  def least(of_main, of_runs):
    return jnp.minimum(of_main, jnp.min(jnp.where(is_there, of_runs, jnp.inf)))

  if main.worth is not None:
    log_z = log_z._replace(effective_sample_size=least(main.worth, runs.worth))
  return Found(log_z, missed, least(main.acceptance, runs.acceptance))


def _first(before: Sequence[Region], region: Region, x: States) -> Bool[Array, " _"]:
  """Return which states are in a region and in none of those before it."""
  inside = region.holds(x)
  for other in before:
    inside &= ~other.holds(x)
  return inside


def _part(run: AnnealedRun, counts: Bool[Array, " _"]) -> Float[Array, " units"]:
  """Return each unit's log of its estimate of the part of Z at states that count; -inf where none does."""
  log_weights = jnp.where(counts.reshape(run.log_weights.shape), run.log_weights, -jnp.inf)
  return jax.nn.logsumexp(log_weights, axis=1) - jnp.log(log_weights.shape[1])


def separate(known: States, others: States, scale: Float[Array, "*event"] | float = 1.0,
             taken: Bool[Array, " _"] | None = None) -> tuple[Region, Bool[Array, " _"]]:
  """Return a half-space of what is new among `others`, and which of them it is about.

  New is a state that is farther from all known ones than any of these from its nearest neighbour. A plane is looked for
  between what is known and all of the new; where there is none, since it lies on several sides, the new states about
  the one farthest away. There is no region where less than MIN_SHARE of the others is new, or where no plane has most
  of it on one side and nothing known.

  Args:
    known: states that annealing reaches.
    others: states that may be elsewhere.
    scale: unit of every dimension.
    taken: others that count for nothing, such as those in other regions.
  """
  # About the mean of what is known: squares of what is far from 0 would leave no digits to distances.
  centre = jnp.mean(known, axis=0)
  a, b = _flat((known - centre) / scale), _flat((others - centre) / scale)
  nearest_known = jnp.min(_squared_distances(a, a) + jnp.diag(jnp.full(len(a), jnp.inf)), axis=1)
  away = jnp.min(_squared_distances(b, a), axis=1)
  is_new = away > jnp.max(nearest_known) + 1e-3
  is_new = is_new if taken is None else is_new & ~taken
  farthest = b[jnp.argmax(jnp.where(is_new, away, -jnp.inf))]
  about = is_new & (jnp.sum(jnp.square(b - farthest), axis=1) < away)
  of_all, of_some = _half_space(a, b, is_new), _half_space(a, b, about)
  region, members = jax.tree.map(lambda whole, part: jnp.where(of_all[0].is_there, whole, part), of_all, of_some)
  direction = (region.direction.reshape(known.shape[1:]) / scale).reshape(-1)
  return region._replace(direction=direction, threshold=region.threshold + centre.reshape(-1) @ direction), members


def _half_space(known: Float[Array, "known dims"], others: Float[Array, "others dims"],
                is_new: Bool[Array, " others"]) -> tuple[Region, Bool[Array, " others"]]:
  """Between the known and the new, and which of these are in it; with all of them where there is no region."""
  count = is_new.astype(others.dtype)
  num = jnp.maximum(jnp.sum(count), 1.0)
  # Naive Bayes's direction: differences of means in units of the spread about them.
  mean_known, mean_new = jnp.mean(known, axis=0), count @ others / num
  spread = 0.5 * (jnp.var(known, axis=0) + count @ jnp.square(others - mean_new) / num) + 0.01
  direction = (mean_new - mean_known) / spread
  score_known, score_new = jnp.max(known @ direction), count @ (others @ direction) / num
  threshold = score_known + MARGIN * (score_new - score_known)
  inside = is_new & (others @ direction > threshold)
  is_there = ((score_new > score_known) & (jnp.sum(is_new) >= max(2.0, MIN_SHARE * len(others)))
              & (jnp.sum(inside) >= 0.5 * jnp.sum(is_new)))
  return Region(direction, threshold, is_there), jnp.where(is_there, inside, is_new)


def _total(parts: Sequence[Float[Array, " units"]]) -> Estimate:
  """Return the sum of parts of Z by the log-weights of each, -inf for units that count for nothing."""
  each = [estimate(part) for part in parts]
  nats = jax.nn.logsumexp(jnp.stack([part.nats for part in each]))
  shares = jnp.exp(jnp.stack([part.nats for part in each]) - nats)
  stderr = jnp.sqrt(jnp.sum(jnp.square(shares * jnp.stack([part.stderr for part in each]))))
  interval = jax.nn.logsumexp(jnp.stack([part.interval for part in each]), axis=0)
  relative = jnp.exp(jnp.concatenate(parts) - nats)
  size = jnp.square(jnp.sum(relative)) / jnp.sum(jnp.square(relative))
  return Estimate(nats, stderr, interval, size)


def _squared_distances(a: Float[Array, "m dims"], b: Float[Array, "n dims"]) -> Float[Array, "m n"]:
  squares = jnp.sum(jnp.square(a), axis=1)[:, None] + jnp.sum(jnp.square(b), axis=1) - 2.0 * a @ b.T
  return jnp.maximum(squares, 0.0)


def _log_mean(log_weights: Float[Array, " units"]) -> Float[Array, ""]:
  return jax.nn.logsumexp(log_weights) - jnp.log(len(log_weights))


def _flat(x: States) -> Float[Array, "_ dims"]:
  return x.reshape(len(x), -1).astype(jnp.result_type(float))
