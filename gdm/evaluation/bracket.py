"""Both ends of the likelihood of a model that is known up to its partition function, against the cost of knowing it.

The pessimistic end is the model's own `log_likelihood`, a lower bound; the optimistic end its score less a log Z that
annealing under-estimates. The truth lies between them, on average over their draws, and they meet as temperatures are
added.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.evaluation.intervals import Interval, combined, mean_half
from gdm.evaluation.likelihood import HostBatch, SplitLikelihood, evaluate_likelihood
from gdm.model import Carry, HasLikelihoods, HasLogLikelihood, HasUnnormalized, Model, Objective, Params


@dataclasses.dataclass(frozen=True, eq=False)
class Bracket:
  """The two ends, scored on the same examples.

  Attributes:
    num_temperatures: steps of annealing.
    pessimistic: the lower end of log p.
    optimistic: the upper end.
  """

  num_temperatures: int
  pessimistic: SplitLikelihood
  optimistic: SplitLikelihood

  @property
  def width(self) -> float:
    """Mean distance between the ends, in nats per example."""
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

  def to_json(self) -> dict[str, Any]:
    """What `bracket.json` holds of it."""
    ends = {name: {"nats_mean": end.nats_mean, "nats_stderr": end.nats_stderr,
                   "nats_ci95": end.nats_ci95 and list(end.nats_ci95), "kind": str(end.kind)}
            for name, end in (("pessimistic", self.pessimistic), ("optimistic", self.optimistic))}
    return {"num_temperatures": self.num_temperatures, **ends, "width": self.width,
            "width_ci95": self.width_ci95 and list(self.width_ci95),
            "log_z_stderr": self.optimistic.normalizer_stderr, "num_examples": self.pessimistic.num_examples}


@dataclasses.dataclass(frozen=True)
class _UpToConstant:
  """A model without its own log-likelihood, so that the evaluator asks for its log Z."""

  model: Any

  @property
  def spec(self) -> DataSpec:
    return self.model.spec

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return self.model.objectives

  def init(self, key, batch):
    return self.model.init(key, batch)

  def unnormalized_log_prob(self, params, carry, batch):
    return self.model.unnormalized_log_prob(params, carry, batch)

  def log_normalizer(self, params, carry, key):
    return self.model.log_normalizer(params, carry, key)


def evaluate_bracket(model: Model, params: Params, carry: Carry, batches: Callable[[], Iterable[HostBatch]],
                     num_temperatures: int, *, key: Key[Array, ""], num_samples: int = 1,
                     mesh: Mesh | None = None) -> Bracket:
  """Scores a split from both sides, by annealing over so many temperatures, whatever the model would do by itself.

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
    raise ConfigError(f"{type(model).__name__} has no bracket: it must have a log-likelihood from below, a score with "
                      "a log Z from below, and a likelihood called ais.")
  several: Any = model  # for the type checker: all three protocols
  annealed = several.scored_by("ais", num_temperatures=num_temperatures)
  key = jax.random.fold_in(key, num_temperatures)
  ends = [evaluate_likelihood(end, params, carry, batches(), key=key, num_samples=num_samples, mesh=mesh)
          for end in (annealed, _UpToConstant(annealed))]
  return Bracket(num_temperatures, *ends)
