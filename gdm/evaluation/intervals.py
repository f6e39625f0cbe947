"""95 % intervals: Student's for means, Clopper and Pearson's for shares, and how the parts of an error add up.

What an interval cannot know is in `is_doubtful`: Student's presumes that the mean is normal, which that of few skewed
numbers is not.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float, Num

TAIL = 0.025  # probability beyond either end of a 95 % interval


class Interval(NamedTuple):
  """The two ends of a 95 % interval."""

  low: float
  high: float

  @classmethod
  def around(cls, value: float, below: float, above: float | None = None) -> "Interval":
    """Return the interval from `below` under the value to `above` over it, by default as far."""
    return cls(value - below, value + (below if above is None else above))


class Measured(NamedTuple):
  """A number and its 95 % interval."""

  value: float
  ci95: Interval


def plus_minus(value: float, interval: Sequence[float] | None, digits: int = 4, sign: str = "") -> str:
  """Return `1.9312 ± 0.0123`, or `1.9312 -0.0123 +0.0145` of an interval whose sides differ in the digits shown.

  `sign` may be "+", which shows that of positive values too.
  """
  shown = f"{value:{sign}z.{digits}f}"
  if interval is None:
    return shown
  below, above = (f"{side:z.{digits}f}" for side in (value - interval[0], interval[1] - value))
  return f"{shown} ± {above}" if below == above else f"{shown} -{below} +{above}"


def brackets(value: float, interval: Sequence[float], digits: int = 4) -> str:
  """Return `0.9733 [0.9521, 0.9868]`, for what lies in [0, 1] and so not evenly in its interval."""
  low, high = interval
  return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


@functools.cache
def student_975(degrees: float | int) -> float:
  """Return how many standard errors lie on either side of a 95 % interval, by Student's t of so many degrees."""
  return float(scipy.special.stdtrit(degrees, 1.0 - TAIL))


NORMAL_975 = student_975(math.inf)


def standard_error(values: Float[np.ndarray, " num"]) -> float | None:
  """Return the standard error of the mean of independent values; None for a single one, which shows no spread."""
  return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None


def mean_half(values: Float[np.ndarray, " num"]) -> float | None:
  """Return half the width of Student's interval of the mean of independent values; None for a single one."""
  stderr = standard_error(values)
  return None if stderr is None else student_975(len(values) - 1) * stderr


def ratio_stderr(values: Float[np.ndarray, " num"], weights: Num[np.ndarray, " num"]) -> float:
  """Return the standard error of sum(values) / sum(weights), by leaving out one example after the other (jackknife).

  For equal weights it is that of a mean; for unequal ones it is less often too small than that of the linearized ratio
  where there are few. There must be two examples or more, of positive weight.
  """
  num, total = len(values), float(np.sum(weights))
  residuals = values - float(np.sum(values)) / total * weights
  moved = residuals / (total - weights)  # what the ratio moves by without each example
  return math.sqrt((num - 1) / num * float(np.sum(moved**2)))


def combined(*halves: float | int) -> float:
  """Return the half width of a sum whose terms are independent and have these half widths.

  Half widths add up as standard errors do, in squares, each with the degrees of freedom of its own term (the method of
  variance estimates recovery: Zou and Donner, Statistics in Medicine 2008). Of asymmetric intervals, give what counts
  on one side.
  """
  return math.hypot(*halves)


def share_interval(share: float, num: float | int) -> Interval:
  """Return the interval of a probability by the share of `num` independent trials (Clopper and Pearson, 1934).

  It covers the truth in at least 95 of 100 cases, whatever the probability: also where all trials came out alike.
  """
  hits = share * num
  low = 0.0 if hits <= 0.0 else float(scipy.special.betaincinv(hits, num - hits + 1.0, TAIL))
  high = 1.0 if hits >= num else float(scipy.special.betaincinv(hits + 1.0, num - hits, 1.0 - TAIL))
  return Interval(low, high)


def skewness(values: Float[np.ndarray, " num"]) -> float:
  """Return the third central moment over the cube of the standard deviation; 0 where all values are alike."""
  centred = values - np.mean(values)
  variance = float(np.mean(centred**2))
  return float(np.mean(centred**3)) / variance**1.5 if variance > 0.0 else 0.0


def is_doubtful(values: Float[np.ndarray, " num"]) -> bool:
  """Return whether values are so skewed and so few that Student's interval may cover their mean in fewer cases.

  Cochran's rule (Sampling Techniques, 1977, section 2.15) wants more than 25 times the squared skewness. Of fewer than
  25 values, whose skewness is uncertain, it must also be two of its standard errors, sqrt(6 / num), from 0.
  """
  num = len(values)
  return skewness(values) ** 2 > max(num / 25.0, 24.0 / num)
