"""Runs the binaries as processes of their own, forked from one that has imported everything."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from gdm.training import checkpoint

ROOT = Path(__file__).parent.parent
HERE = ROOT / "tests" / "experiments"
TINY = f"--config={HERE / 'tiny.py'}"  # then ":" and a variant


class Result(NamedTuple):
  """How a command ended: its exit code, or minus the signal; what it printed."""

  status: int
  out: str
  err: str


class Running:
  """A command under way."""

  def __init__(self, server, pid, stem):
    self._server, self.pid, self._stem = server, pid, stem

  @property
  def out(self) -> str:
    path = Path(f"{self._stem}.1")
    return path.read_text() if path.exists() else ""

  def until(self, condition, seconds=60.0) -> None:
    """Waits, busily, for `condition()`."""
    end = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < end, f"waited {seconds} s; so far: {self.out}"

  def kill(self, number=signal.SIGKILL) -> "Running":
    os.kill(self.pid, number)
    return self

  def wait(self) -> Result:
    status = self._server.ask({"wait": self.pid})["status"]
    return Result(status, self.out, Path(f"{self._stem}.2").read_text())


class Commands:
  """Starts `python -m <module> <args>`, forked from a server process."""

  def __init__(self, folder: Path):
    self._folder, self._count = folder, 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
                   "JAX_COMPILATION_CACHE_DIR": os.path.expanduser("~/.cache/gdm/xla-tests"),
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    self._process = subprocess.Popen([sys.executable, str(HERE / "fork_server.py")], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True, env=environment)

  def ask(self, order):
    self._process.stdin.write(json.dumps(order) + "\n")
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def start(self, binary, *args, limit=None, **environment) -> Running:
    """Starts experiments.<binary>; `limit` is the largest file it may write, in bytes."""
    self._count += 1
    stem = str(self._folder / str(self._count))
    order = {"module": f"experiments.{binary}", "args": [str(arg) for arg in args], "out": stem, "limit": limit,
             "env": environment}
    return Running(self, self.ask(order)["pid"], stem)

  def run(self, binary, *args, **options) -> Result:
    return self.start(binary, *args, **options).wait()

  def good(self, binary, *args, **options) -> str:
    """What a command prints that must succeed, and say nothing on stderr."""
    result = self.run(binary, *args, **options)
    assert (result.status, result.err) == (0, ""), result
    return result.out

  def close(self):
    with self._process:  # closes the pipes, which ends the server, and waits for it
      pass


def arrays(directory, step):
  """Every array of a checkpoint, by name."""
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = {name: jax.ShapeDtypeStruct(shape, dtype, sharding=device)
          for name, (shape, dtype) in checkpoint.read_meta(directory, step)["leaves"].items()}
  return {name: np.asarray(leaf) for name, leaf in checkpoint.restore(directory, step, like).state.items()}


def snapshot(workdir, place, step):
  """All that a checkpoint holds and that determines what follows; times left out."""
  meta = checkpoint.read_meta(workdir / place, step)
  progress = {name: value for name, value in meta["progress"].items() if name != "train_seconds"}
  return arrays(workdir / place, step), {"loader": meta["loader"], "window": meta["window"], "progress": progress}


def assert_same_runs(workdir, other):
  """The two workdirs hold the same rows and, bit for bit, the same newest checkpoints, and others as far as shared.

  An interrupted run has checkpoints where it was interrupted, so that it need not keep the same older ones.
  """
  assert (workdir / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
  for place in ("checkpoints", "best"):
    steps, others = (checkpoint.list_steps(folder / place) for folder in (workdir, other))
    assert steps[-1:] == others[-1:]
    for step in set(steps) & set(others):
      (leaves, facts), (other_leaves, other_facts) = (snapshot(folder, place, step) for folder in (workdir, other))
      assert facts == other_facts, (place, step)
      assert leaves.keys() == other_leaves.keys()
      for name, leaf in leaves.items():
        assert leaf.dtype == other_leaves[name].dtype and leaf.tobytes() == other_leaves[name].tobytes(), (step, name)
