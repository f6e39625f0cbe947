"""Timing on a machine that others use too: alternate what is compared, take medians, show quartiles."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from experiments.speed.rows import Row

Name = TypeVar("Name", bound=Hashable)


def seconds(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
  """Seconds until the result of `call` is there, on the device too."""
  start = clock()
  jax.block_until_ready(call())
  return clock() - start


def alternate(calls: Mapping[Name, Callable[[], Any]], repeats: int, inner: int = 1,
              clock: Callable[[], float] = time.perf_counter) -> dict[Name, list[float]]:
  """Seconds per call of each, `repeats` times in turns, so that what else the machine does hits all of them alike.

  A first round, which compiles, is not counted; each timing is of `inner` calls. `clock` may be `time.process_time`:
  the processor's time of this process, all threads together, which other processes hardly change.
  """
  times: dict[Name, list[float]] = {name: [] for name in calls}
  for call in calls.values():
    seconds(call)
  for _ in range(repeats):
    for name, call in calls.items():
      times[name].append(seconds(lambda call=call: [call() for _ in range(inner)], clock) / inner)
  return times


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
  """Ratios of neighbours in time, of which the median is steadier than the ratio of medians."""
  return [n / d for n, d in zip(numerators, denominators, strict=True)]


def rates(times: Sequence[float], num: float = 1.0) -> list[float]:
  """`num` per second."""
  return [num / time for time in times]


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
  """Return the slope of log time against log size by least squares: 1 where time is linear in size."""
  return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def summary(name: str, values: Sequence[float], unit: str, how: str, *, low: float | None = None,
            high: float | None = None) -> Row:
  """Return a row of the values' median and quartiles."""
  quarter, median, three_quarters = (float(q) for q in np.quantile(np.asarray(values), (0.25, 0.5, 0.75)))
  return Row(name, median, unit, how, (quarter, three_quarters), low, high)
