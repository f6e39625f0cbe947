"""Modes that annealing from its base never reaches: looked for from elsewhere, and counted in log Z.

Annealing can end in one mode only and say so with a small error: its weights know of nothing else. Chains that start
elsewhere (persistent chains, the base's opposite, uniform states) may settle in states that it never visits. A region
about these, a half-space, is then annealed to from a base of its own. The two parts of Z are added up:

  Z = sum over x outside of f(x) + sum over x inside of f(x), where E[w 1(x inside)] is the second for any base

The weight w of a chain and its last state x are those of one run of annealing, so that every part is unbiased where its
region was chosen without that run: regions are chosen by a pilot run with a key of its own. The sum's logarithm is
below log Z on average, as a single run's is; the larger of several runs' would not be.
"""

import functools
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm.inference.annealed_importance import Estimate, Path, estimate, forward

SETTLING_STEPS = 100  # of chains at the target, from elsewhere
MIN_SHARE = 0.02  # of these that must be in unknown places
MARGIN = 0.1  # where a region begins, between what annealing reaches (0) and the middle of what it does not (1)

States = Num[Array, "_ *event"]


class Region(NamedTuple):
  """The half-space x . direction > threshold of flattened states, where `is_there`; nothing where not."""

  direction: Float[Array, " dims"]
  threshold: Float[Array, ""]
  is_there: Bool[Array, ""]

  def holds(self, x: States) -> Bool[Array, " _"]:
    return self.is_there & (_flat(x) @ self.direction > self.threshold)


class Found(NamedTuple):
  """log Z with all regions, and the share of Z that annealing from the base alone does not see, in [0, 1]."""

  log_z: Estimate
  missed: Float[Array, ""]


def log_normalizer(path: Path, betas: Float[np.ndarray, " rungs"], key: Key[Array, ""], num_chains: int,
                   starts: Sequence[States], path_from: Callable[[States, Float[Array, " _"]], Path],
                   scale: Float[Array, "*event"] | float = 1.0) -> Found:
  """Estimate log Z by annealing from the base, and to what else chains from other starts come to.

  Args:
    path: from the base to the target.
    betas: the temperatures.
    key: of all runs.
    num_chains: chains of each run of annealing.
    starts: states where chains start, several for each place.
    path_from: (states, their weights) -> the path from a base that is fitted to these states.
    scale: unit of every dimension, in which distances between states are compared.
  """
  pilot_key, settle_key, main_key, more_key = jax.random.split(key, 4)
  known = forward(path, betas, pilot_key, num_chains).x
  main = forward(path, betas, main_key, num_chains)
  left = jnp.ones(num_chains, bool)  # chains of the base's run that are in no region so far
  before: list[Region] = []
  parts: list[Float[Array, " chains"]] = []
  unseen = []
  for index, start in enumerate(starts):
    settled = _settle(path, jax.random.fold_in(settle_key, index), start.astype(known.dtype))
    region, weights = separate(known, settled, scale)

    def anneal(index=index, region=region, settled=settled, weights=weights):
      run = forward(path_from(settled, weights), betas, jax.random.fold_in(more_key, index), num_chains)
      inside = region.holds(run.x)
      for other in before:
        inside &= ~other.holds(run.x)
      return jnp.where(inside, run.log_weights, -jnp.inf)

    log_weights = jax.lax.cond(region.is_there, anneal, lambda: jnp.full_like(main.log_weights, -jnp.inf))
    seen = jnp.where(left & region.holds(main.x), main.log_weights, -jnp.inf)
    unseen.append(jnp.maximum(jnp.exp(_log_mean(log_weights) - _log_mean(main.log_weights))
                              - jnp.exp(_log_mean(seen) - _log_mean(main.log_weights)), 0.0))
    left &= ~region.holds(main.x)
    before.append(region)
    parts.append(log_weights)
    known = jnp.concatenate([known, settled])
  outside = jnp.where(left, main.log_weights, -jnp.inf)
  whole = _total([outside, *parts])
  any_there = functools.reduce(jnp.logical_or, [region.is_there for region in before], jnp.asarray(False))
  log_z = jax.tree.map(lambda new, old: jnp.where(any_there, new, old), whole, estimate(main.log_weights))
  share = sum(unseen, jnp.zeros(())) * jnp.exp(_log_mean(main.log_weights) - log_z.nats)
  return Found(log_z, jnp.clip(share, 0.0, 1.0))


def separate(known: States, others: States,
             scale: Float[Array, "*event"] | float = 1.0) -> tuple[Region, Float[Array, " _"]]:
  """Return the half-space of what is new among `others`, and their weights: 1 for those in it, 0 for the rest.

  New is a state that is farther from all known ones than any of these from its nearest neighbour. There is no region
  where less than MIN_SHARE of the others is new, or where no plane has most of it on one side and nothing known.
  """
  a, b = _flat(known / scale), _flat(others / scale)
  nearest_known = jnp.min(_squared_distances(a, a) + jnp.diag(jnp.full(len(a), jnp.inf)), axis=1)
  is_new = (jnp.min(_squared_distances(b, a), axis=1) > jnp.max(nearest_known) + 1e-3).astype(b.dtype)
  num = jnp.maximum(jnp.sum(is_new), 1.0)
  # Naive Bayes's direction: differences of means in units of the spread about them.
  mean_known, mean_new = jnp.mean(a, axis=0), is_new @ b / num
  spread = 0.5 * (jnp.var(a, axis=0) + is_new @ jnp.square(b - mean_new) / num) + 0.01
  direction = (mean_new - mean_known) / spread
  score_known, score_new = jnp.max(a @ direction), is_new @ (b @ direction) / num
  threshold = score_known + MARGIN * (score_new - score_known)
  inside = is_new * (b @ direction > threshold)
  is_there = ((score_new > score_known) & (jnp.sum(is_new) >= max(2.0, MIN_SHARE * len(b)))
              & (jnp.sum(inside) >= 0.5 * jnp.sum(is_new)))
  return Region((direction.reshape(known.shape[1:]) / scale).reshape(-1), threshold, is_there), inside


def _total(parts: Sequence[Float[Array, " chains"]]) -> Estimate:
  """The sum of parts of Z by the log-weights of each, -inf for chains that count for nothing."""
  each = [_partial(part) for part in parts]
  nats = jax.nn.logsumexp(jnp.stack([part.nats for part in each]))
  shares = jnp.exp(jnp.stack([part.nats for part in each]) - nats)
  stderr = jnp.sqrt(jnp.sum(jnp.square(shares * jnp.stack([part.stderr for part in each]))))
  interval = jax.nn.logsumexp(jnp.stack([part.interval for part in each]), axis=0)
  relative = jnp.exp(jnp.concatenate(parts) - nats)
  size = jnp.square(jnp.sum(relative)) / jnp.sum(jnp.square(relative))
  return Estimate(nats, stderr, interval, size)


def _partial(log_weights: Float[Array, " chains"], confidence: float = 0.95) -> Estimate:
  """What `estimate` finds, of a part of Z to which some chains only contribute; -inf where none does."""
  num, counts = len(log_weights), jnp.isfinite(log_weights)
  inside = jnp.sum(counts)
  nats = _log_mean(log_weights)
  relative = jnp.exp(log_weights - jnp.where(inside > 0, nats, 0.0))
  stderr = jnp.sqrt(jnp.var(relative, ddof=1) / num)
  # Log-weights of those that count for normal, and their number for binomial.
  finite = jnp.where(counts, log_weights, 0.0)
  mean = jnp.sum(finite) / jnp.maximum(inside, 1)
  variance = jnp.sum(jnp.where(counts, jnp.square(finite - mean), 0.0)) / jnp.maximum(inside - 1, 1)
  share = jnp.maximum(inside, 1) / num
  centre = mean + 0.5 * variance + jnp.log(share)
  spread = (variance / jnp.maximum(inside, 1) + jnp.square(variance) / (2.0 * jnp.maximum(inside - 1, 1))
            + (1.0 - share) / (share * num))
  z = statistics.NormalDist().inv_cdf(0.5 + 0.5 * confidence)
  half, middle = z * jnp.stack([stderr, jnp.sqrt(spread)]), jnp.stack([nats, jnp.where(inside > 1, centre, nats)])
  interval = jnp.stack([jnp.min(middle - half), jnp.max(middle + half)])
  size = jnp.square(jnp.sum(relative)) / jnp.maximum(jnp.sum(jnp.square(relative)), jnp.finfo(relative.dtype).tiny)
  return Estimate(nats, stderr, jnp.where(inside > 0, interval, -jnp.inf), size)


def _settle(path: Path, key: Key[Array, ""], x: States) -> States:
  """Chains at the target."""
  def step(x, index):
    return path.transition(jax.random.fold_in(key, index), x, jnp.ones(())), None

  return jax.lax.scan(step, x, jnp.arange(SETTLING_STEPS))[0]


def _squared_distances(a: Float[Array, "m dims"], b: Float[Array, "n dims"]) -> Float[Array, "m n"]:
  squares = jnp.sum(jnp.square(a), axis=1)[:, None] + jnp.sum(jnp.square(b), axis=1) - 2.0 * a @ b.T
  return jnp.maximum(squares, 0.0)


def _log_mean(log_weights: Float[Array, " chains"]) -> Float[Array, ""]:
  return jax.nn.logsumexp(log_weights) - jnp.log(len(log_weights))


def _flat(x: States) -> Float[Array, "_ dims"]:
  return x.reshape(len(x), -1).astype(jnp.result_type(float))
