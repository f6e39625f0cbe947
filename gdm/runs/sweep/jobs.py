"""Jobs of commands, so many at a time, which a signal stops and which go on where one fails."""

import contextlib
import dataclasses
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gdm.runs.exits import EXIT_RESUME_ME

_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Job:
  """Commands to run one after the other, each if the one before succeeded.

  Attributes:
    name: what it is called in messages; "" says nothing at its start.
    commands: each as (python, "-m", module, argument, ...).
    log: the file that their output goes to; None lets it through.
  """

  name: str
  commands: tuple[tuple[str, ...], ...]
  log: Path | None = None

  @property
  def line(self) -> str:
    """All of it as one line for a shell."""
    return " && ".join(map(shlex.join, self.commands))

  def start(self, number: int) -> subprocess.Popen:
    """Start a command."""
    with self.log.open("ab") if self.log else contextlib.nullcontext() as log:
      # In the sweep's own process group: what ends a terminal ends them all.
      return subprocess.Popen(self.commands[number], stdin=subprocess.DEVNULL, stdout=log,
                              stderr=subprocess.STDOUT if log else None)

  def failure(self, number: int, code: int) -> str:
    """Return the message about a command that failed, in one line."""
    module = self.commands[number][2]
    how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
    said = [line.strip() for line in self.log.read_text(errors="replace").splitlines()] if self.log else []
    return f"error: {self.name or 'the ranking'}: {module} {how}: {next(filter(None, reversed(said)), 'see above')}"


def run_jobs(jobs: Sequence[Job], at_once: int, caught: Sequence[int]) -> int:
  """Run the jobs, `at_once` of them at a time.

  A job that fails is told, and the others go on. One that says that it was interrupted, or a signal in `caught`, stops
  the rest: SIGTERM is passed on to what runs, which is waited for.

  Returns:
    0, 1 where a job failed, or EXIT_RESUME_ME where the rest was stopped.
  """
  waiting, running = list(reversed(jobs)), {}
  stopping = failed = told = False
  try:
    while running or (waiting and not stopping):
      while waiting and len(running) < at_once and not (stopping or caught):
        job = waiting.pop()
        if job.name:
          print(f"{job.name}{f': output in {job.log}' if job.log else ''}", flush=True)
        running[job] = (0, job.start(0))
      time.sleep(_POLL_SECONDS)
      for job, (number, process) in list(running.items()):
        if (code := process.poll()) is None:
          continue
        del running[job]
        stopping = stopping or bool(caught) or code == EXIT_RESUME_ME
        if code and not stopping:
          failed = True
          print(job.failure(number, code), file=sys.stderr, flush=True)
        elif not stopping and number + 1 < len(job.commands):
          running[job] = (number + 1, job.start(number + 1))
        elif not code and job.log:
          print(f"{job.name}: done.", flush=True)
      stopping = stopping or bool(caught)
      if stopping and not told:
        told = True
        for _, process in running.values():
          process.terminate()
        print(f"interrupted, {len(running)} under way and told to save; the same command goes on.", flush=True)
      if caught.count(signal.SIGINT) > 1:  # a workdir survives a kill at any moment
        for _, process in running.values():
          process.kill()
  finally:  # nothing runs on, whatever was raised
    for _, process in running.values():
      process.kill()
      process.wait()
  return EXIT_RESUME_ME if stopping or caught else int(failed)


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
  """Within this context, signals that ask for an end only append their number to the list."""
  caught: list[int] = []
  old = {}
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
      old[number] = signal.signal(number, lambda number, frame: caught.append(number))
  try:
    yield caught
  finally:
    for number, handler in old.items():
      signal.signal(number, handler)
