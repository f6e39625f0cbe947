"""One fault: a run in a workdir of its own, what is done to it, and how it goes on."""

import dataclasses
import random
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

from experiments.faults.commands import Commands, Result, Running
from experiments.faults.compare import difference
from gdm.errors import UserError
from gdm.runs.exits import EXIT_BAD_INPUT, EXIT_RESUME_ME
from gdm.runs.workdir import Workdir
from gdm.training import checkpoint

LIMIT_SECONDS = 60.0  # longer than any end of a quick run takes on a busy machine; more counts as hanging
_SHARE = 8.0  # of what an unbroken run takes, which may be more on a machine busier still
_RESUMES = 5
_MARKS = ("error: ", "WARNING: ", "ERROR: ", "INFO: ")  # the latter three are log lines


class Lost(Exception):
  """A violation: a traceback, other numbers, no end, a good checkpoint gone."""


class Refused(Exception):
  """A run that says in one line why it does not go on."""


@dataclasses.dataclass(frozen=True)
class Unbroken:
  """The run that nothing was done to: what all others are compared with."""

  config: str  # the value of --config
  workdir: Path
  seconds: float  # from its start to its end
  num_steps: int
  num_rows: int
  stall_seconds: float  # after which a run without data ends itself; 0 where it does not


class Scene:
  """One fault's workdir, command, chance and history."""

  def __init__(self, commands: Commands, unbroken: Unbroken, folder: Path, chance: random.Random):
    self._commands, self.unbroken, self.chance = commands, unbroken, chance
    self.workdir = Workdir(folder)
    self.place = str(self.workdir.path)  # the value of --workdir
    self.environment: dict[str, str] = {}  # of the command, beside that of all
    self.history: list[str] = []  # how each process ended
    self._running: list[Running] = []

  def start(self, inject: str | None = None, limit: int | None = None) -> Running:
    """Start the training command, which resumes where there is something to resume."""
    flags = (f"--config={self.unbroken.config}", f"--workdir={self.place}")
    command = ("train",) if inject is None else ("faults.injected", f"--inject={inject}", "--")
    running = self._commands.start(*command, *flags, limit=limit, **self.environment)
    self._running.append(running)
    return running

  @property
  def limit_seconds(self) -> float:
    """Seconds after which a process counts as hanging."""
    return max(LIMIT_SECONDS, _SHARE * self.unbroken.seconds)

  def end(self, running: Running, allowed: Collection[int], seconds: float | None = None) -> Result:
    """Wait for a process. Raises Lost where it hangs, or ends otherwise than allowed or with a traceback."""
    seconds = self.limit_seconds if seconds is None else seconds
    result = running.wait_for(seconds)
    if result is None:
      self._give_up(running, seconds)
    self._running.remove(running)
    lines, place = result.err.splitlines(), f"{running.stem}.2"
    errors = [line for line in lines if line.startswith(_MARKS[0])]
    self.history.append(f"exit {result.status}" + "".join(f": {line}" for line in errors))
    if result.status not in allowed:
      last = lines[-1] if lines else ""
      raise Lost(f"exit {result.status}, where {sorted(allowed)} are right; it said {last!r}, see {place}")
    if strange := [line for line in lines if not line.startswith(_MARKS)]:
      raise Lost(f"exit {result.status}, and more than its message on stderr: {strange[-1]!r}, see {place}")
    if len(errors) != (result.status == EXIT_BAD_INPUT):
      raise Lost(f"exit {result.status} with {len(errors)} errors on stderr, see {place}")
    return result

  def finish(self) -> Result:
    """Give the same command until the run ends. Raises Refused where it says that it cannot, Lost as `end` does."""
    for _ in range(_RESUMES):
      result = self.end(self.start(), {0, EXIT_BAD_INPUT, EXIT_RESUME_ME})
      if result.status == EXIT_BAD_INPUT:
        raise Refused(result.err.strip().splitlines()[-1])
      if result.status == 0:
        return result
    raise Lost(f"it had not ended after {_RESUMES} resumes")

  def close(self) -> None:
    """End what is still running, where the scene was broken off."""
    for running in self._running:
      running.kill().wait()

  def require_identical(self) -> None:
    """Raise Lost unless the finished run is the unbroken one."""
    self.look()
    if not self.workdir.finished.exists():
      raise Lost("it ended with 0, but has no record of its end")
    try:
      found = difference(self.workdir.path, self.unbroken.workdir)
    except (OSError, ValueError, UserError) as error:
      raise Lost(f"what it left cannot be read: {error}") from error
    if found is not None:
      raise Lost(f"other numbers than unbroken: {found}")

  def look(self) -> None:
    """Bring `workdir` up to date, where it is a copy."""

  # Moments.

  def sleep(self, share: float = 1.0) -> None:
    """Wait for a time drawn evenly from `share` of what an unbroken run takes."""
    time.sleep(self.chance.uniform(0.0, share * self.unbroken.seconds))

  def until(self, running: Running, condition: Callable[[], object]) -> bool:
    """Wait for a condition; false where the process ended before. Raises Lost where neither comes."""
    end = time.monotonic() + self.limit_seconds
    while not condition():
      if running.ended:
        return False
      if time.monotonic() > end:
        self._give_up(running, self.limit_seconds)
      time.sleep(0.0005)
    return True

  def _give_up(self, running: Running, seconds: float) -> NoReturn:
    """End a run that hangs."""
    running.kill(signal.SIGUSR1)
    time.sleep(0.5)
    self.history.append("hung")
    raise Lost(f"it hung for {seconds:g} s; what it said, and where its threads were, is in {running.stem}.1 and .2")

  def rows(self) -> int:
    """Rows of the log so far."""
    return self.workdir.metrics.read_bytes().count(b"\n") if self.workdir.metrics.exists() else 0

  def sealed(self) -> list[Path]:
    """Return the folders of checkpoints that have their manifest."""
    return sorted(place / str(step) for place in (self.workdir.checkpoints, self.workdir.best)
                  for step in checkpoint.list_steps(place) if (place / str(step) / checkpoint.MANIFEST).exists())

  def saving(self) -> bool:
    """Return whether a save is under way: not committed yet, or without its manifest."""
    for place in (self.workdir.checkpoints, self.workdir.best):
      for path in place.glob("*"):
        if path.name.endswith("tmp") or (path.name.isdigit() and not (path / checkpoint.MANIFEST).exists()):
          return True
    return False

  def good_steps(self) -> set[Path]:
    """Return the folders of checkpoints that are whole."""
    return {folder for folder in self.sealed() if checkpoint.find_fault(folder) is None}
