"""Error by number of training examples: folds that keep duplicates together, curves with intervals, and where two
cross."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from gdm.errors import ConfigError, DataError
from gdm.evaluation.intervals import Interval, Measured, mean_half


class Crossing(NamedTuple):
  """Where one curve falls below another.

  Attributes:
    below: the largest size at which the first model's mean error is the lower one, of those before the crossing.
    above: the next size, at which the second's is.
    is_sure: whether at some size on either side the interval of the difference lies beside 0.
  """

  below: int
  above: int
  is_sure: bool


def grouped_folds(x: Shaped[np.ndarray, "num ..."], num_folds: int, seed: int = 0) -> Int[np.ndarray, " num"]:
  """Return the fold of each example, in [0, num_folds): examples that are equal share one, and folds are as equal in
  size as they can be made by taking groups in an order drawn by the seed, large ones first.

  Raise ConfigError for fewer than two folds, DataError where there are fewer distinct examples than folds.
  """
  if num_folds < 2:
    raise ConfigError(f"num_folds is {num_folds}; it must be at least 2.")
  _, group, counts = np.unique(x.reshape(len(x), -1), axis=0, return_inverse=True, return_counts=True)
  if len(counts) < num_folds:
    raise DataError(f"{len(counts)} distinct examples cannot be put into {num_folds} folds.")
  drawn = np.random.default_rng(seed).permutation(len(counts))
  order = drawn[np.argsort(-counts[drawn], kind="stable")]
  sizes, of_group = np.zeros(num_folds, int), np.zeros(len(counts), int)
  for each in order:
    of_group[each] = np.argmin(sizes)
    sizes[of_group[each]] += counts[each]
  return of_group[group.reshape(-1)]


def draw_training(y: Int[np.ndarray, " num"], size: int, rng: np.random.Generator) -> Int[np.ndarray, " size"]:
  """Draw so many examples without replacement, at least two of each label that there is: drawn anew until it is so.

  Raise ConfigError where that is impossible or nearly so.
  """
  labels, counts = np.unique(y, return_counts=True)
  if not 2 * len(labels) <= size <= len(y) or counts.min() < 2:
    raise ConfigError(f"size is {size}; it must be at least {2 * len(labels)}, two of each label, and at most "
                      f"{len(y)}.")
  for _ in range(1000):
    rows = rng.choice(len(y), size, replace=False)
    if np.min([np.sum(y[rows] == label) for label in labels]) >= 2:
      return rows
  raise ConfigError(f"size is {size}; among 1,000 draws of so many examples none had two of each label: choose a "
                    "larger one.")


def mean_error(errors: Float[np.ndarray, " draws"]) -> Measured:
  """Return the mean over folds and draws, with Student's interval, which takes them for independent; they share
  training examples, so that it is somewhat too narrow."""
  mean, half = float(np.mean(errors)), mean_half(errors)
  return Measured(mean, Interval.around(mean, math.inf if half is None else half))


def crossing(sizes: Sequence[int], first: Float[np.ndarray, "sizes draws"],
             second: Float[np.ndarray, "sizes draws"]) -> Crossing | None:
  """Return the last place where the first model's mean error ceases to be the lower one; None where there is none.

  Args:
    sizes: rising.
    first, second: errors of both models on the same draws.
  """
  differences = [mean_error(second[i] - first[i]) for i in range(len(sizes))]  # above 0 where the first is better
  signs = [each.value > 0 for each in differences]
  for i in reversed(range(len(sizes) - 1)):
    if signs[i] and not signs[i + 1]:
      sure = (any(each.ci95.low > 0 for each in differences[:i + 1])
              and any(each.ci95.high < 0 for each in differences[i + 1:]))
      return Crossing(sizes[i], sizes[i + 1], sure)
  return None
