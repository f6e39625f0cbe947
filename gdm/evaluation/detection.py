"""How well scores detect what is not data: areas under curves and false positives, each with its 95 % interval."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gdm.errors import ConfigError
from gdm.evaluation.intervals import TAIL, Interval, Measured, share_interval
from gdm.evaluation.outliers import separation

RESAMPLES = 400  # of both sets, for an interval
KEPT = 0.95  # share of the data above the threshold at which false positives are counted

Weights = Int[np.ndarray, " _"]


class Detection(NamedTuple):
  """Measures of how well scores, which are to be higher inside, tell two sets apart.

  Attributes:
    auroc: the probability that an example inside scores above one outside; ties count half.
    aupr_inside: mean precision in finding what is inside, over thresholds weighed by the recall that they add; depends
      on the sizes of both sets.
    aupr_outside: the same in finding what is outside, by low scores.
    fpr95: share of the outside above the highest threshold that 95 % of the inside reach.
  """

  auroc: Measured
  aupr_inside: Measured
  aupr_outside: Measured
  fpr95: Measured


def detection(inside: Float[np.ndarray, " inside"], outside: Float[np.ndarray, " outside"],
              seed: int = 0) -> Detection:
  """Return the measures. The interval of the AUROC is that of `separation`; of the others the central 95 % of
  resamples of both sets, drawn with replacement (Efron's percentiles), for false positives no narrower than Clopper
  and Pearson's of the outside at that threshold. Of areas under precision and recall it is too narrow where the scores
  separate the sets perfectly, or nearly.

  Raise ConfigError unless there are two or more scores in both sets, none of them NaN.
  """
  found = separation(inside, outside)
  rng = np.random.default_rng(seed)
  resamples = [rng.multinomial(len(scores), np.full(len(scores), 1.0 / len(scores)), RESAMPLES)
               for scores in (inside, outside)]

  def measured(measure: Callable[[Weights, Weights], float]) -> Measured:
    ends = np.quantile([measure(*weights) for weights in zip(*resamples, strict=True)], [TAIL, 1.0 - TAIL])
    value = measure(*(np.ones(len(scores), int) for scores in (inside, outside)))
    return Measured(value, Interval(float(ends[0]), float(ends[1])))

  false = measured(_false_positives(inside, outside))
  least = share_interval(false.value, len(outside))
  false = Measured(false.value, Interval(min(false.ci95.low, least.low), max(false.ci95.high, least.high)))
  return Detection(Measured(*found), measured(_average_precision(inside, outside)),
                   measured(_swapped(_average_precision(-outside, -inside))), false)


def p_values(reference: Float[np.ndarray, " reference"],
             scores: Float[np.ndarray, " num"]) -> Float[np.ndarray, " num"]:
  """Return the probability that an example of the reference's distribution scores as low as each of `scores`, by
  ranks among the reference: (1 + how many are at most it) / (1 + reference) (Song et al., arXiv:1710.10766, section
  3.2). Where scores are of that distribution, P(p <= a) <= a.

  Raise ConfigError where there is no reference.
  """
  if not len(reference):
    raise ConfigError("reference has no scores; there must be at least one.")
  return (1.0 + np.searchsorted(np.sort(reference), scores, side="right")) / (1.0 + len(reference))


def _average_precision(found: Float[np.ndarray, " found"], others: Float[np.ndarray, " others"]
                       ) -> Callable[[Weights, Weights], float]:
  """Return the average precision as a function of how often each example counts; sorted once."""
  scores = np.concatenate([found, others])
  order = np.argsort(-scores, kind="stable")
  is_found = order < len(found)
  last = np.append(np.diff(scores[order]) != 0.0, True)  # of those of equal score

  def measure(of_found: Weights, of_others: Weights) -> float:
    weights = np.concatenate([of_found, of_others])[order]
    hits, all_so_far = np.cumsum(weights * is_found)[last], np.cumsum(weights)[last]
    gained = np.diff(hits, prepend=0)
    return float(np.sum(gained * hits / np.maximum(all_so_far, 1)) / hits[-1])

  return measure


def _swapped(measure: Callable[[Weights, Weights], float]) -> Callable[[Weights, Weights], float]:
  return lambda inside, outside: measure(outside, inside)


def _false_positives(inside: Float[np.ndarray, " inside"], outside: Float[np.ndarray, " outside"]
                     ) -> Callable[[Weights, Weights], float]:
  order = np.argsort(-inside, kind="stable")

  def measure(of_inside: Weights, of_outside: Weights) -> float:
    reached = np.cumsum(of_inside[order])
    threshold = inside[order][np.searchsorted(reached, KEPT * reached[-1])]
    return float(np.sum(of_outside[outside >= threshold]) / np.sum(of_outside))

  return measure
