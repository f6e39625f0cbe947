"""What a sweep varies: lists of values and ranges, points drawn from them at random, and points that Optuna proposes.

A run is chosen by the best validation of its training; the split that is scored at the end plays no part.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdm.errors import ConfigError
from gdm.extras import load_extra

SEED = 20241130  # of random points, and of Optuna's sampler
_DIGITS = 3  # of numbers drawn from a range, so that names of workdirs are short
_RANGE = re.compile(r"([^.]+(?:\.\d+)?(?:e[-+]?\d+)?)\.\.(.+)")


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers between two ends, uniform in their logarithm.

  Attributes:
    low: the least, above 0.
    high: the largest.
  """

  low: int | float
  high: int | float

  @property
  def is_whole(self) -> bool:
    """Whether only whole numbers are meant, as both ends are."""
    return isinstance(self.low, int) and isinstance(self.high, int)

  def at(self, share: float) -> int | float:
    """Return the number at a share in [0, 1] of the way, in the logarithm."""
    return self.rounded(self.low * (self.high / self.low)**share)

  def rounded(self, value: float) -> int | float:
    """Return a number to as many digits as names of workdirs have room for, within the range."""
    value = round(value) if self.is_whole else float(f"{value:.{_DIGITS}g}")
    return min(max(value, self.low), self.high)


Axis = Sequence[Any] | Range  # the values of one field
Chosen = Mapping[str, Any]  # field -> value


def split_range(text: str) -> tuple[str, str] | None:
  """Return the ends of "1e-4..1e-2"; None where a text is no range."""
  found = _RANGE.fullmatch(text)
  return (found[1], found[2]) if found else None


def make_range(field: str, low: Any, high: Any) -> Range:
  """Return a range. Raise ConfigError unless its ends are numbers, 0 < low < high."""
  if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)) or not 0 < low < high:
    raise ConfigError(f"--grid={field} is the range {low!r}..{high!r}; it must be between two numbers above 0, the "
                      "lower first, as 1e-4..1e-2.")
  return Range(low, high)


def random_points(axes: Mapping[str, Axis], num: int) -> list[Chosen]:
  """Return `num` different points; fewer where there are no more. More of them begin with the same ones."""
  rng = np.random.Generator(np.random.Philox(SEED))
  ranges = any(isinstance(axis, Range) for axis in axes.values())
  most = num if ranges else min(num, math.prod(len(axis) for axis in axes.values() if not isinstance(axis, Range)))
  found: dict[str, Chosen] = {}
  for _ in range(1000 * most):  # a range of whole numbers may have fewer than `num`
    point = {field: _drawn(axis, rng.random()) for field, axis in axes.items()}
    found.setdefault(repr(point), point)
    if len(found) == most:
      break
  return list(found.values())


def _drawn(axis: Axis, share: float) -> Any:
  return axis.at(share) if isinstance(axis, Range) else axis[int(share * len(axis))]


class Proposals:
  """Points that Optuna proposes, one after another, from what the earlier ones came to.

  The same results give the same proposals, so that an interrupted sweep goes on by the same command.
  """

  def __init__(self, axes: Mapping[str, Axis]):
    """Raise ConfigError where Optuna is missing."""
    self._optuna = load_extra("optuna", "optuna", "--optuna")
    self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
    self._axes = axes
    self._space = {field: self._distribution(axis) for field, axis in axes.items()}
    self._study = self._optuna.create_study(direction="maximize", sampler=self._optuna.samplers.TPESampler(seed=SEED))

  def next(self) -> tuple[Any, Chosen]:
    """Return a trial, to be handed to `tell`, and its point."""
    trial = self._study.ask(self._space)
    return trial, {field: axis.rounded(trial.params[field]) if isinstance(axis, Range) else
                   axis[trial.params[field]] for field, axis in self._axes.items()}

  def tell(self, trial: Any, nats: float | None) -> None:
    """Record the best validation of a trial, the higher the better; None of one that failed."""
    self._study.tell(trial, nats, None if nats is not None else self._optuna.trial.TrialState.FAIL)

  def _distribution(self, axis: Axis) -> Any:
    kinds = self._optuna.distributions
    if not isinstance(axis, Range):
      return kinds.CategoricalDistribution(tuple(range(len(axis))))  # by place: Optuna takes no tuples as values
    kind = kinds.IntDistribution if axis.is_whole else kinds.FloatDistribution
    return kind(axis.low, axis.high, log=True)
