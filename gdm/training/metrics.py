"""Metrics on their way from the device to the log: fetched one call late, merged as sums, never lost by a resume."""

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.errors import NotFiniteError, WorkdirError
from gdm.model import Mean
from gdm.paths import write_whole

Row = dict[str, float]
_logger = logging.getLogger(__name__)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedMetrics:
  """The metrics of a call in one array, since each array that is fetched costs the host as much as all in one.

  Attributes:
    values: total and weight of each metric at each step.
    names: the metrics.
  """

  values: Float[Array, "names 2 steps"]
  names: tuple[str, ...] = dataclasses.field(metadata={"static": True})


def pack(metrics: Mapping[str, Mean]) -> PackedMetrics:
  """Metrics [steps] of a call in one array."""
  return PackedMetrics(jnp.stack([jnp.stack(tuple(mean)) for mean in metrics.values()]), tuple(metrics))


class MetricsWindow:
  """Merges per-step metrics into one row per `every` steps, without making the device wait.

  `push` starts no transfer; it first absorbs what the previous call pushed, which the device has finished meanwhile.
  The open window is part of a checkpoint (`get_state`), so a resumed run logs the rows of the unbroken one.
  """

  def __init__(self, every: int, emit: Callable[[int, Row], None]):
    self._every = every
    self._emit = emit
    self._sums: dict[str, list[float]] = {}
    self._pending: tuple[int, PackedMetrics] | None = None

  def push(self, last_step: int, metrics: PackedMetrics) -> None:
    """Take the metrics [steps] of a call whose last step is `last_step`."""
    previous, self._pending = self._pending, (last_step, metrics)
    if previous is not None:
      self._absorb(*previous)

  def flush(self) -> None:
    """Absorbs what is pending; waits for the device."""
    previous, self._pending = self._pending, None
    if previous is not None:
      self._absorb(*previous)

  def get_state(self) -> dict[str, list[float]]:
    """Return the open window: metric -> [total, weight]."""
    return {name: list(pair) for name, pair in self._sums.items()}

  def set_state(self, state: Mapping[str, list[float]]) -> None:
    self._sums = {name: list(pair) for name, pair in state.items()}

  def _absorb(self, last_step: int, metrics: PackedMetrics) -> None:
    fetched = dict(zip(metrics.names, np.asarray(metrics.values).tolist(), strict=True))
    num_steps = metrics.values.shape[-1]
    for i in range(num_steps):
      step = last_step - num_steps + 1 + i
      for name, (totals, weights) in fetched.items():
        if not math.isfinite(totals[i]):
          raise NotFiniteError(f"{name} is {totals[i] / weights[i]} at step {step}.")
        pair = self._sums.setdefault(name, [0.0, 0.0])
        pair[0] += totals[i]
        pair[1] += weights[i]
      if step % self._every == 0:
        row = {name: total / weight for name, (total, weight) in self._sums.items()}
        self._sums = {}
        self._emit(step, row)


class MetricsFile:
  """`metrics.jsonl`: one JSON object per line, {"step": ..., metric: value}; cut back to the restored step."""

  def __init__(self, path: Path, last_step: int, last_validation: int | None = None):
    """Open `path` for appending and drops rows after `last_step`, and a last line that a kill left unfinished.

    Rows of validations, whose metrics are named "valid/...", are dropped after `last_validation`, by default too after
    `last_step`: a validation comes after the save of its step, and may have been cut.

    A file that is damaged otherwise is kept beside, as `<name>.damaged`. Raise WorkdirError where the file cannot be
    read or written.
    """
    rows, faults = _parse(path)
    last_validation = last_step if last_validation is None else last_validation
    text = "".join(json.dumps(row) + "\n" for row in rows
                   if row["step"] <= (last_validation if any(name.startswith("valid/") for name in row) else last_step))
    try:
      if faults:
        path.replace(path.with_name(path.name + ".damaged"))
      write_whole(path, lambda file: file.write(text.encode()))
      self._file = path.open("a")
    except OSError as error:
      raise WorkdirError(f"{path} cannot be written: {error.strerror}.") from error

  def write(self, row: Mapping[str, Any]) -> None:
    self._file.write(json.dumps(row) + "\n")
    self._file.flush()

  def close(self) -> None:
    self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
  """Return the rows of a metrics file in order; none where there is no file; unreadable lines are passed over, with
  a warning.

  An unfinished last line, which is what a kill leaves, is passed over in silence. Raise WorkdirError where the file
  cannot be read.
  """
  return _parse(path)[0]


def _parse(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
  """Return the rows, and the numbers of the lines that are damaged and not merely unfinished."""
  if not path.exists():
    return [], []
  try:
    lines = path.read_bytes().split(b"\n")
  except OSError as error:
    raise WorkdirError(f"{path} cannot be read: {error.strerror}.") from error
  rows, faults = [], []
  for number, line in enumerate(lines, start=1):
    try:
      row = json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
      row = None
    if isinstance(row, dict) and isinstance(row.get("step"), int):
      rows.append(row)
    elif number < len(lines):  # what follows the last newline is unfinished, or nothing
      faults.append(number)
  if faults:
    _logger.warning("%s is damaged; its lines %s are passed over.", path, ", ".join(map(str, faults[:5])))
  return rows, faults
