"""Runs the binaries as processes of their own, and compares what they left."""

import os
import socket
from pathlib import Path

import jax
import numpy as np

from experiments.faults import commands
from experiments.faults.commands import ROOT
from gdm.training import checkpoint
from gdm.training.metrics import read_metrics

HERE = ROOT / "tests" / "helpers"
TINY = f"--config={HERE / 'tiny.py'}"  # then ":" and a variant


class Commands(commands.Commands):
  """Starts `python -m <module> <args>`, forked from a server process, with the tests' compilation cache."""

  def __init__(self, folder: Path):
    super().__init__(folder, {"JAX_PLATFORMS": "cpu",
                              "JAX_COMPILATION_CACHE_DIR": os.path.expanduser("~/.cache/gdm/xla-tests"),
                              "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"})

  def good(self, binary, *args, **options) -> str:
    """What a command prints that must succeed, and say nothing on stderr."""
    result = self.run(binary, *args, **options)
    assert (result.status, result.err) == (0, ""), result
    return result.out


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


def flags(port, index, count=2, timeout=60):
  """Of one process of several."""
  return (f"--coordinator=localhost:{port}", f"--num_processes={count}", f"--process_id={index}",
          f"--coordinator_timeout={timeout}")


def free_port():
  """A port that nobody listens at."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def assert_near(workdir, other):
  """The same rows and the same last state, but for rounding: sums over two processes are added in another order."""
  ours, theirs = read_metrics(workdir / "metrics.jsonl"), read_metrics(other / "metrics.jsonl")
  assert [row.keys() for row in ours] == [row.keys() for row in theirs]
  for row, expected in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(list(row.values()), list(expected.values()), rtol=1e-5)
  (step, *_), (last, *_) = (checkpoint.list_steps(folder / "checkpoints")[::-1] for folder in (workdir, other))
  assert step == last
  one, two = (arrays(folder / "checkpoints", step) for folder in (workdir, other))
  for name, leaf in one.items():
    np.testing.assert_allclose(leaf, two[name], rtol=1e-4, atol=1e-5, err_msg=name)
  loaders = [checkpoint.read_meta(folder / "checkpoints", step)["loader"] for folder in (workdir, other)]
  assert loaders[0] == loaders[1]
