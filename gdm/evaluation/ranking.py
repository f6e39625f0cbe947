"""Scores that order examples by their density, for what needs no more: anomaly detection."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key, Num

from gdm.batches import filled
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import require_finite
from gdm.model import Carry, HasAnomalyScore, HasLogLikelihood, HasUnnormalized, Model, Params
from gdm.precision import highest_precision


@highest_precision()
def scores(model: Model, params: Params, carry: Carry, x: Num[np.ndarray, "num *event"], key: Key[Array, ""],
           batch_size: int) -> Float[np.ndarray, " num"]:
  """Return log p(x) in nats of each example, up to a constant where a model has such a score: it is the cheaper one.

  Of a model without either it is minus its anomaly score.

  Raises:
    ConfigError: the model has none of the three.
    SpecError: its examples have lengths, which are not among the arguments: padding would be scored as data.
    NotFiniteError: a score is NaN or infinite; names the example.
  """
  score = jax.jit(_way(model))
  if model.spec.has_lengths:
    raise SpecError(f"examples of {type(model).__name__} have lengths (spec.has_lengths), and padding is no data: they "
                    "are not ordered by their density; choose data of one length.")
  parts = []
  for index, start in enumerate(range(0, len(x), batch_size)):
    rows = x[start:start + batch_size]
    found = score(params, carry, {"x": filled(rows, batch_size)}, jax.random.fold_in(key, index))
    parts.append(np.asarray(found)[:len(rows)])
  found = np.concatenate(parts).astype(np.float64)
  require_finite(found, 0, "score")
  return found


def has_density(model: Any) -> bool:
  """Return whether a model has a log-density, if up to a constant."""
  return isinstance(model, HasUnnormalized | HasLogLikelihood)


def _way(model: Any):
  if isinstance(model, HasUnnormalized):
    return lambda params, carry, batch, key: model.unnormalized_log_prob(params, carry, batch)
  if isinstance(model, HasLogLikelihood):
    return lambda params, carry, batch, key: model.log_likelihood(params, carry, batch, key).nats
  if isinstance(model, HasAnomalyScore):
    return lambda params, carry, batch, key: -model.anomaly_score(params, carry, batch, key)
  raise ConfigError(f"{type(model).__name__} has no log-density to score by, and no anomaly score.")
