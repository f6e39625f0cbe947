"""Both ends of the likelihood of a model that is known up to its partition function, against the cost of knowing it.

  pessimistic  the model's own `log_likelihood`: a lower bound of what its annealed sampler draws (RAISE). That tends to
               the model as temperatures are added, but before it may lie above the model's log p.
  optimistic   its score less a log Z that annealing under-estimates: an upper bound of the model's log p, on average.
               Of integers, which are dequantized, it is none: noise errs to one side and log Z to the other.

The ends meet as temperatures are added. Where the second lies below the first by more than noise, the first is refuted
as a bound of log p.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from gdm.errors import ConfigError
from gdm.evaluation.intervals import Interval, combined, mean_half, plus_minus
from gdm.evaluation.likelihood import HostBatch, evaluate_likelihood
from gdm.evaluation.of_model import OfModel
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.likelihood import Kind
from gdm.model import Carry, HasLikelihoods, HasLogLikelihood, HasUnnormalized, Model, Params


@dataclasses.dataclass(frozen=True, eq=False)
class Bracket:
  """The two ends, scored on the same examples.

  Attributes:
    num_temperatures: steps of annealing.
    pessimistic: the model's own scores.
    optimistic: the scores by log Z.
  """

  num_temperatures: int
  pessimistic: SplitLikelihood
  optimistic: SplitLikelihood

  @property
  def has_upper_end(self) -> bool:
    """Whether the scores by log Z bound log p from above."""
    return self.optimistic.kind in (Kind.UPPER_BOUND, Kind.EXACT)

  @property
  def refuted(self) -> bool:
    """Whether the scores by log Z refute the others as a lower bound of log p."""
    return dataclasses.replace(self.pessimistic, alternatives=(self.optimistic,)).refuted

  @property
  def width(self) -> float:
    """Mean nats per example from the pessimistic scores up to the optimistic ones."""
    return self.optimistic.nats_mean - self.pessimistic.nats_mean

  @property
  def width_ci95(self) -> Interval | None:
    """Its 95 % interval: Student's over examples, which are the same at both ends, so that only their differences vary;
    and that of log Z. None for a single example."""
    half = mean_half(self.optimistic.nats - self.pessimistic.nats)
    if half is None:
      return None
    below, above = self.optimistic.normalizer_halves
    return Interval.around(self.width, combined(half, below), combined(half, above))

  @property
  def line(self) -> str:
    """The bracket in words."""
    of, log_z = self.pessimistic, self.optimistic.log_z
    own = f"{of.nats_mean:.4f} nats, {str(of.kind).replace('_', ' ')}"
    by_log_z = f"{self.optimistic.nats_mean:.4f} nats, {str(self.optimistic.kind).replace('_', ' ')} of log p"
    parts = [f"{self.num_temperatures} temperatures: {own}", f"by log Z {by_log_z}",
             f"{plus_minus(self.width, self.width_ci95)} (95 %) apart"]
    if not self.has_upper_end:
      parts.append("there is no upper end, since dequantization errs to one side and log Z to the other")
    if self.refuted:
      parts.append("the first is refuted as a bound of log p")
    if log_z is not None and log_z.effective_sample_size is not None:
      parts.append(f"log Z by chains worth {log_z.effective_sample_size:.1f}")
    return "; ".join(parts)

  def to_json(self) -> dict[str, Any]:
    """Return the entries of `bracket.json`."""
    ends = {name: {"nats_mean": end.nats_mean, "nats_stderr": end.nats_stderr,
                   "nats_ci95": end.nats_ci95 and list(end.nats_ci95), "kind": str(end.kind)}
            for name, end in (("pessimistic", self.pessimistic), ("optimistic", self.optimistic))}
    log_z = self.optimistic.log_z
    of_log_z = {} if log_z is None else {
        "log_z_ci95": list(log_z.ci95), "effective_sample_size": log_z.effective_sample_size,
        "missed_share": log_z.missed}
    return {"num_temperatures": self.num_temperatures, **ends, "has_upper_end": self.has_upper_end,
            "refuted": self.refuted, "width": self.width, "width_ci95": self.width_ci95 and list(self.width_ci95),
            "log_z_stderr": self.optimistic.normalizer_stderr, **of_log_z,
            "num_examples": self.pessimistic.num_examples}


@dataclasses.dataclass(frozen=True)
class _UpToConstant(OfModel):
  """A model without its own log-likelihood, so that the evaluator asks for its log Z."""

  model: Any

  def unnormalized_log_prob(self, params, carry, batch):
    return self.model.unnormalized_log_prob(params, carry, batch)

  def log_normalizer(self, params, carry, key, examples=None):
    return self.model.log_normalizer(params, carry, key, examples)


def evaluate_bracket(model: Model, params: Params, carry: Carry, batches: Callable[[], Iterable[HostBatch]],
                     num_temperatures: int, *, key: Key[Array, ""], num_samples: int = 1,
                     mesh: Mesh | None = None) -> Bracket:
  """Score a split from both sides, by annealing over so many temperatures, whatever the model would do by itself.

  Args:
    model: a model with `log_likelihood`, `unnormalized_log_prob`, `log_normalizer`, and a likelihood called "ais".
    params: its parameters.
    carry: its carry.
    batches: gives one pass over the split at each call.
    num_temperatures: steps of annealing.
    key: of the draws.
    num_samples: chains from each example at the pessimistic end.
    mesh: devices to split each batch over.

  Raises:
    ConfigError: the model is normalized, or is not annealed.
    And what `evaluate_likelihood` raises.
  """
  if not all(isinstance(model, protocol) for protocol in (HasLogLikelihood, HasUnnormalized, HasLikelihoods)):
    raise ConfigError(f"{type(model).__name__} has no bracket: it must have a log-likelihood of its own, a score with "
                      "a log Z, and a likelihood called ais.")
  several: Any = model  # for the type checker: all three protocols
  annealed = several.scored_by("ais", num_temperatures=num_temperatures)
  key = jax.random.fold_in(key, num_temperatures)
  ends = [evaluate_likelihood(end, params, carry, batches(), key=key, num_samples=num_samples, mesh=mesh)
          for end in (annealed, _UpToConstant(annealed))]
  return Bracket(num_temperatures, *ends)
