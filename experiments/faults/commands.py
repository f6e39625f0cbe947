"""Runs the binaries as processes of their own, forked from one that has imported everything."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent.parent


class Result(NamedTuple):
  """The end of a command: its exit code, or minus the signal; its output."""

  status: int
  out: str
  err: str


class Running:
  """A command under way; what it prints goes to the files `<stem>.1` and `<stem>.2`."""

  def __init__(self, server: "Commands", pid: int, stem: str):
    self._server, self.pid, self.stem = server, pid, stem

  @property
  def out(self) -> str:
    path = Path(f"{self.stem}.1")
    return path.read_text() if path.exists() else ""

  @property
  def err(self) -> str:
    path = Path(f"{self.stem}.2")
    return path.read_text() if path.exists() else ""

  @property
  def ended(self) -> bool:
    """Whether it has ended; what has and was not waited for is a zombie."""
    return self.state in ("Z", "X")

  @property
  def state(self) -> str:
    """The letter that Linux has for the state of the process."""
    try:
      return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
      return "X"

  def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait, busily, for `condition()`."""
    end = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < end, f"waited {seconds} s; so far: {self.out}"

  def ends_within(self, seconds: float) -> bool:
    """Return whether it ends in so many seconds; it can still be waited for."""
    end = time.monotonic() + seconds
    while not self.ended and time.monotonic() < end:
      time.sleep(0.005)
    return self.ended

  def kill(self, number: int = signal.SIGKILL) -> "Running":
    os.kill(self.pid, number)
    return self

  def wait(self) -> Result:
    return Result(self._server.ask({"wait": self.pid})["status"], self.out, self.err)

  def wait_for(self, seconds: float) -> Result | None:
    """Return the result, None where it has not ended in so many seconds."""
    status = self._server.ask({"wait": self.pid, "seconds": seconds})["status"]
    return None if status is None else Result(status, self.out, self.err)


class Commands:
  """Starts `python -m <module> <args>`, forked from a server process."""

  def __init__(self, folder: Path, environment: Mapping[str, str]):
    """`folder` takes what the commands print; `environment` is added to this process's."""
    self._folder, self._count = folder, 0
    self._process = subprocess.Popen(
        [sys.executable, "-m", "experiments.faults.fork_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})

  def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
    assert self._process.stdin is not None and self._process.stdout is not None
    self._process.stdin.write(json.dumps(order) + "\n")
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def start(self, binary: str, *args: object, limit: int | None = None, **environment: str) -> Running:
    """Start experiments.<binary>; `limit` is the largest file it may write, in bytes."""
    self._count += 1
    stem = str(self._folder / str(self._count))
    order = {"module": f"experiments.{binary}", "args": [str(arg) for arg in args], "out": stem, "limit": limit,
             "env": environment}
    return Running(self, self.ask(order)["pid"], stem)

  def run(self, binary: str, *args: object, **options: Any) -> Result:
    return self.start(binary, *args, **options).wait()

  def close(self) -> None:
    with self._process:  # closes the pipes, which ends the server, and waits for it
      pass
