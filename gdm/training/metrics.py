"""Metrics on their way from the device to the log: fetched one call late, merged as sums, never lost by a resume."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gdm.errors import NotFiniteError
from gdm.model import Mean

Row = dict[str, float]


class MetricsWindow:
  """Merges per-step metrics into one row per `every` steps, without making the device wait.

  `push` starts no transfer; it first absorbs what the previous call pushed, which the device has finished meanwhile.
  The open window is part of a checkpoint (`get_state`), so a resumed run logs the rows of the unbroken one.
  """

  def __init__(self, every: int, emit: Callable[[int, Row], None]):
    self._every = every
    self._emit = emit
    self._sums: dict[str, list[float]] = {}
    self._pending: tuple[int, Mapping[str, Mean]] | None = None

  def push(self, last_step: int, metrics: Mapping[str, Mean]) -> None:
    """Takes the metrics [steps] of a call whose last step is `last_step`."""
    previous, self._pending = self._pending, (last_step, metrics)
    if previous is not None:
      self._absorb(*previous)

  def flush(self) -> None:
    """Absorbs what is pending; waits for the device."""
    previous, self._pending = self._pending, None
    if previous is not None:
      self._absorb(*previous)

  def get_state(self) -> dict[str, list[float]]:
    """The open window: metric -> [total, weight]."""
    return {name: list(pair) for name, pair in self._sums.items()}

  def set_state(self, state: Mapping[str, list[float]]) -> None:
    self._sums = {name: list(pair) for name, pair in state.items()}

  def _absorb(self, last_step: int, metrics: Mapping[str, Mean]) -> None:
    fetched = {name: (np.atleast_1d(mean.total), np.atleast_1d(mean.weight))
               for name, mean in jax.device_get(dict(metrics)).items()}
    num_steps = len(next(iter(fetched.values()))[0])
    for i in range(num_steps):
      step = last_step - num_steps + 1 + i
      for name, (totals, weights) in fetched.items():
        if not math.isfinite(totals[i]):
          raise NotFiniteError(f"{name} is {totals[i] / weights[i]} at step {step}.")
        pair = self._sums.setdefault(name, [0.0, 0.0])
        pair[0] += float(totals[i])
        pair[1] += float(weights[i])
      if step % self._every == 0:
        row = {name: total / weight for name, (total, weight) in self._sums.items()}
        self._sums = {}
        self._emit(step, row)


class MetricsFile:
  """`metrics.jsonl`: one JSON object per line, {"step": ..., metric: value}; cut back to the restored step."""

  def __init__(self, path: Path, last_step: int):
    """Opens `path` for appending and drops rows after `last_step`, and a last line that a kill left unfinished."""
    kept = [row for row in read_metrics(path) if row["step"] <= last_step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    temporary.replace(path)
    self._file = path.open("a")

  def write(self, row: Mapping[str, Any]) -> None:
    self._file.write(json.dumps(row) + "\n")
    self._file.flush()

  def close(self) -> None:
    self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
  """The rows of a metrics file in order; none where there is no file; an unfinished last line is passed over."""
  if not path.exists():
    return []
  rows = []
  for line in path.read_text().splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return rows
