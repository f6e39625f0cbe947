"""Checkpoints: MB/s of saving and restoring, digests included, and what a save costs the steps around it."""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import rates, seconds, summary
from experiments.speed.training import Trainee, made
from gdm.training.checkpoint import MANIFEST, Checkpointer, find_fault, restore
from gdm.training.state import TrainState

KEEP = 2  # steps on disk at a time


@dataclasses.dataclass(frozen=True)
class Size:
  """Hidden layers, batch size, and steps timed before each save, to compare with those during it."""

  hidden: tuple[int, ...] = (2000, 2000)
  batch: int = 100
  steps: int = 10


SIZES = {FULL: Size(), QUICK: Size(steps=5), TINY: Size((4, 4), 10, 2)}


@dataclasses.dataclass(frozen=True)
class Interference:
  """The effect of one save on the steps around it.

  Attributes:
    call: seconds that `save` itself took.
    seal: seconds of the longest `poll`.
    during: seconds of each step while files were written.
    slowed: median of `during` over the median of the steps before; None where the write was over before a step was.
    cost: seconds from the call to the seal, less what its steps take otherwise.
  """

  call: float
  seal: float
  during: list[float]
  slowed: float | None
  cost: float


def run(settings: Settings) -> list[Row]:
  size, dataset = SIZES[settings.size], settings.dataset()
  name, model = made(dataset, size.hidden)
  trainee = Trainee(model, dataset)
  step = trainee.repeat(trainee.compile(size.batch), size.batch)
  state = step()  # moments of zeros would compress to nothing
  # A step donates its state, so that what is restored to are shapes and shardings.
  like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
  megabytes = 1e-6 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  with tempfile.TemporaryDirectory(prefix="gdm-speed-") as folder:
    directory = Path(folder) / "checkpoints"
    checkpointer = Checkpointer(directory, keep=KEEP)
    _save(checkpointer, 0, state)  # the first one starts threads
    saves, checks, restores, disturbed = [], [], [], []
    for repeat in range(settings.repeats):
      number = 2 * repeat + 1
      saves.append(_save(checkpointer, number, state))
      checks.append(seconds(lambda path=directory / str(number): find_fault(path)))
      restores.append(seconds(lambda number=number: restore(directory, number, like).state))
      disturbed.append(_interference(checkpointer, directory, number + 1, step, size.steps))
      state = step()
    checkpointer.close()
    newest = directory / str(2 * settings.repeats)
    disk = 1e-6 * sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
  during = [len(save.during) for save in disturbed]
  slowed = [save.slowed for save in disturbed if save.slowed is not None]
  return [
      Row("state", megabytes, "MB", f"{name} with adam"),
      Row("state on disk", disk, "MB", f"compressed by Orbax, under {tempfile.gettempdir()}"),
      summary("save", rates(saves, megabytes), "MB/s", "Checkpointer.save to the end of finish, digests included"),
      summary("restore", rates(restores, megabytes), "MB/s", "digests verified first; files in the system's memory"),
      summary("verify the digests alone", rates(checks, disk), "MB/s", "bytes on disk"),
      summary("save blocks the step", [1e3 * save.call for save in disturbed], "ms", "the call of Checkpointer.save"),
      summary("sealing blocks the step", [1e3 * save.seal for save in disturbed], "ms",
              "the longest call of poll; digests and deletion are done in the background"),
      _slowed_row(slowed, f"median of {min(during)} to {max(during)} steps during the write over {size.steps} before "
                  f"it; batch {size.batch}"),
      summary("a save costs in all", [1e3 * save.cost for save in disturbed], "ms",
              "call to seal, less what the steps taken meanwhile take otherwise"),
  ]


def _slowed_row(slowed: list[float], how: str) -> Row:
  name = "steps during a save, slowed"
  return summary(name, slowed, "x", how) if slowed else Row(name, None, "x", "each write ended before a step did")


def _save(checkpointer: Checkpointer, number: int, state: TrainState) -> float:
  """Seconds of a save with nothing beside it."""
  start = time.perf_counter()
  checkpointer.save(number, state, {})
  checkpointer.finish()
  return time.perf_counter() - start


def _interference(checkpointer: Checkpointer, directory: Path, number: int, step: Callable[[], TrainState],
                  steps: int) -> Interference:
  """Save while steps go on, as `fit` does it: the save's call, then steps, with a poll after each."""
  before = float(np.median([seconds(step) for _ in range(steps)]))
  state, during, seal = step(), [], 0.0
  jax.block_until_ready(state)
  start = time.perf_counter()
  checkpointer.save(number, state, {})
  call = time.perf_counter() - start
  while not (directory / str(number) / MANIFEST).exists():
    during.append(seconds(step))
    polled = time.perf_counter()
    checkpointer.poll()
    seal = max(seal, time.perf_counter() - polled)
  cost = time.perf_counter() - start - len(during) * before
  return Interference(call, seal, during, float(np.median(during)) / before if during else None, cost)
