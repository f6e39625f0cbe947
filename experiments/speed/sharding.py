"""Cost of the mesh where it has one device: the step that `fit` runs over plain `jax.jit` of the same step.

`fit` compiles its step ahead of time, with shardings of its inputs and outputs and its metrics packed; the plain step
is `jax.jit(make_train_step(...), donate_argnums=0)` on arrays that know no mesh. Compiled ahead of time too it leaves
only what the mesh costs; as `jit` dispatches it, it is what code without a mesh would run.
"""

import dataclasses
import time

import jax

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, ratios, summary
from experiments.speed.training import Trainee, made

OVERHEAD_TARGET = 1.02
SHARDED, PLAIN, AGAIN, JIT = "sharded", "plain", "plain again", "jit"


@dataclasses.dataclass(frozen=True)
class Size:
  """Hidden layers and batch size of a step of 5 ms and more, and steps of each kind per repeat."""

  hidden: tuple[int, ...] = (512,)
  batch: int = 2000
  steps: int = 100


SIZES = {FULL: Size(), QUICK: Size(steps=25), TINY: Size((8,), 8, 2)}
# Steps of milliseconds on a GPU or a TPU.
ACCELERATOR_SIZES = {FULL: Size((8192, 8192), 4096, 50), QUICK: Size((8192, 8192), 4096, 15), TINY: SIZES[TINY]}


def run(settings: Settings) -> list[Row]:
  size, dataset = (SIZES if jax.default_backend() == "cpu" else ACCELERATOR_SIZES)[settings.size], settings.dataset()
  name, model = made(dataset, size.hidden)
  trainee = Trainee(model, dataset)
  calls = {
      PLAIN: trainee.bare_step(size.batch, ahead=True),
      SHARDED: trainee.repeat(trainee.compile(size.batch), size.batch),
      JIT: trainee.bare_step(size.batch),
      AGAIN: trainee.bare_step(size.batch, ahead=True),
  }
  rounds = settings.repeats * size.steps
  times = alternate(calls, rounds)  # waits for each step, so that neighbours in time are compared
  num_spent = max(1, rounds // 4)  # they vary less
  spent = alternate({kind: calls[kind] for kind in (PLAIN, SHARDED)}, num_spent, clock=time.process_time)
  how = f"batch {size.batch} on the device, adam, {rounds} steps of each kind in turns"
  pairs = "median over pairs of neighbouring steps"
  return [
      summary(f"{name}: plain jit", _milliseconds(times[PLAIN]), "ms", f"compiled ahead of time; {how}"),
      summary(f"{name}: sharded, mesh of one", _milliseconds(times[SHARDED]), "ms", f"as fit compiles it; {how}"),
      summary(f"{name}: sharded over plain", ratios(times[SHARDED], times[PLAIN]), "x",
              f"both compiled ahead of time; {pairs}", high=OVERHEAD_TARGET),
      summary(f"{name}: sharded over plain, jit's dispatch", ratios(times[SHARDED], times[JIT]), "x",
              f"as fit calls it over a call of what jax.jit returns; {pairs}"),
      summary(f"{name}: sharded over plain, CPU time", ratios(spent[SHARDED], spent[PLAIN]), "x",
              f"of all threads of this process, which a busy machine hardly changes; {num_spent} pairs"),
      summary(f"{name}: plain over itself", ratios(times[AGAIN], times[PLAIN]), "x",
              f"another copy of the plain step: what is noise; {pairs}"),
  ]


def _milliseconds(times: list[float]) -> list[float]:
  return [1e3 * time for time in times]
