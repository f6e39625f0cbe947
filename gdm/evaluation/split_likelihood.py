"""The log-likelihood of every example of a split, its aggregates, and the log Z that they share."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gdm.errors import NotFiniteError
from gdm.evaluation.intervals import (
    NORMAL_975,
    Interval,
    combined,
    is_doubtful,
    mean_half,
    ratio_stderr,
    skewness,
    standard_error,
    student_975,
)
from gdm.likelihood import Kind, LogNormalizer, bits_per_dim


class LogZ(NamedTuple):
  """The log Z that all scores of a split share, on the host; see `gdm.likelihood.LogNormalizer`.

  Attributes:
    nats: its value.
    stderr: its standard error, or numerical error.
    ci95: a 95 % interval, which need not lie evenly about the value.
    kind: how it relates to the true log Z.
    effective_sample_size: how many chains of equal weight would be as good; None where there are no chains.
    missed: share of Z found in states that annealing from the model's base never reaches; None where not looked for.
    acceptance: the least share of moves that annealing accepted at any temperature; None where none can be rejected.
  """

  nats: float
  stderr: float
  ci95: tuple[float, float]
  kind: Kind
  effective_sample_size: float | None = None
  missed: float | None = None
  acceptance: float | None = None

  @classmethod
  def of(cls, normalizer: LogNormalizer) -> "LogZ":
    """Fetch a log Z, with the kind that it has by its error. Raise NotFiniteError for one that is not finite."""
    nats, stderr = float(normalizer.nats), float(normalizer.stderr)
    if not (math.isfinite(nats) and math.isfinite(stderr)):
      raise NotFiniteError(f"log Z is {nats} with standard error {stderr}; both must be finite.")
    ends = (nats - NORMAL_975 * stderr, nats + NORMAL_975 * stderr)
    if normalizer.interval is not None:
      low, high = np.asarray(normalizer.interval, np.float64).tolist()
      if not (math.isfinite(low) and math.isfinite(high)):
        raise NotFiniteError(f"log Z is {nats}, in an interval from {low} to {high}; both ends must be finite.")
      ends = (min(low, nats), max(high, nats))
    optional = (None if value is None else float(value)
                for value in (normalizer.effective_sample_size, normalizer.missed, normalizer.acceptance))
    return cls(nats, stderr, ends, normalizer.kind.within(stderr), *optional)


@dataclasses.dataclass(frozen=True, eq=False)
class SplitLikelihood:
  """Log-likelihood of every example of a split, in nats and in the split's order, with its aggregates.

  Attributes:
    nats: log p(x) of each example, averaged over draws.
    num_dims: dimensions of each example.
    kind: exact, a bound (in expectation over its draws), or an estimate.
    given: names of the batch entries it is conditional on.
    num_draws: repeats that were averaged; 1 for exact numbers, which have nothing to repeat.
    discrete: whether nats are of a probability mass, so that bits/dim means something.
    normalizer_stderr: standard error, in nats, of what all examples share, a log Z or a grid; 0 where there is none.
    log_z: the log Z that all examples share; None where the model gave their log-likelihoods itself.
    alternatives: the same examples scored otherwise: under further estimates of log Z, or from the other side.
    details: means over examples and draws of what else the model knows: a bound's parts, a solver's evaluations.
    dtype: in which the scores were computed, with products of the highest precision (`gdm.precision`).
  """

  nats: Float[np.ndarray, " examples"]
  num_dims: Int[np.ndarray, " examples"]
  kind: Kind
  given: tuple[str, ...]
  num_draws: int
  discrete: bool
  normalizer_stderr: float = 0.0
  alternatives: "tuple[SplitLikelihood, ...]" = ()
  details: Mapping[str, float] = dataclasses.field(default_factory=dict)
  log_z: LogZ | None = None
  dtype: str = "float32"

  @property
  def num_examples(self) -> int:
    return len(self.nats)

  @property
  def dims_per_example(self) -> float:
    """Mean number of dimensions of an example; a whole number unless examples differ in length."""
    return float(np.mean(self.num_dims))

  @property
  def nats_mean(self) -> float:
    return float(np.mean(self.nats))

  @property
  def nats_stderr(self) -> float | None:
    """Standard error of the mean over examples, and of log Z; None for a single example, which shows no spread."""
    spread = standard_error(self.nats)
    return None if spread is None else math.hypot(spread, self.normalizer_stderr)

  @property
  def nats_ci95(self) -> Interval | None:
    """The 95 % interval of the mean: Student's over examples and that of log Z, combined on either side."""
    half, (below, above) = mean_half(self.nats), self.normalizer_halves
    if half is None:
      return None
    return Interval.around(self.nats_mean, combined(half, below), combined(half, above))

  @property
  def nats_skewness(self) -> float:
    """Third central moment of the scores over the cube of their standard deviation."""
    return skewness(self.nats)

  @property
  def is_interval_doubtful(self) -> bool:
    """Whether the scores are so skewed and so few that their intervals cover less than they say."""
    return is_doubtful(self.nats)

  @property
  def normalizer_halves(self) -> tuple[float, float]:
    """How far the scores may be too high and too low by log Z alone, at 95 %, in nats."""
    if self.log_z is None:
      return NORMAL_975 * self.normalizer_stderr, NORMAL_975 * self.normalizer_stderr
    low, high = self.log_z.ci95
    return high - self.log_z.nats, self.log_z.nats - low

  @property
  def upper_end(self) -> "SplitLikelihood | None":
    """The lowest upper bound among the alternatives; None where there is none."""
    above = [other for other in self.alternatives if other.kind is Kind.UPPER_BOUND]
    return min(above, key=lambda other: other.nats_mean, default=None)

  @property
  def apart(self) -> float | None:
    """Nats per example from these scores up to the upper end; negative where they cross, None without one."""
    return None if self.upper_end is None else self.upper_end.nats_mean - self.nats_mean

  @property
  def bracket(self) -> float | None:
    """Nats per example between a lower and an upper bound of log p; None without both.

    A lower bound of the sampler's distribution is none of log p, and makes no bracket.
    """
    return self.apart if self.kind is Kind.LOWER_BOUND else None

  @property
  def refuted(self) -> bool:
    """Whether the upper end lies below these scores by more than noise, so that they are no lower bound of log p."""
    above = self.upper_end
    if above is None:
      return False
    difference = above.nats - self.nats
    half = mean_half(difference) or 0.0
    return float(np.mean(difference)) + combined(half, above.normalizer_halves[1]) < 0.0

  @property
  def pessimistic_nats(self) -> float:
    """The mean by which checkpoints are chosen: of scores that may lie above log p, the lower of these and by log Z.

    A model can raise the bound of its sampler, by which it is scored, and lose log p by a mode that the sampler misses.
    """
    by_log_z = self.alternatives[:1] if self.log_z is None else ()
    if self.kind in (Kind.EXACT, Kind.LOWER_BOUND) or not by_log_z:
      return self.nats_mean
    return min(self.nats_mean, by_log_z[0].nats_mean)

  @property
  def bits_per_dim(self) -> float | None:
    """All bits over all dimensions; None for a density, whose bits depend on the unit of x."""
    return float(bits_per_dim(np.sum(self.nats), int(np.sum(self.num_dims)))) if self.discrete else None

  @property
  def bits_per_dim_stderr(self) -> float | None:
    """Standard error of that ratio of sums over examples, and of log Z."""
    spread = self._nats_per_dim_stderr
    if spread is None:
      return None
    return math.hypot(spread, self.normalizer_stderr / self.dims_per_example) / math.log(2.0)

  @property
  def bits_per_dim_ci95(self) -> Interval | None:
    """The 95 % interval of bits/dim, with the same parts as that of the nats, turned round since bits are negative."""
    spread, bits = self._nats_per_dim_stderr, self.bits_per_dim
    if spread is None or bits is None:
      return None
    half = student_975(self.num_examples - 1) * spread
    below, above = (combined(half, side / self.dims_per_example) for side in self.normalizer_halves)
    return Interval.around(bits, above / math.log(2.0), below / math.log(2.0))

  @property
  def _nats_per_dim_stderr(self) -> float | None:
    """Standard error over examples of the nats per dimension; None for a density, and for a single example."""
    return ratio_stderr(self.nats, self.num_dims) if self.discrete and self.num_examples > 1 else None
