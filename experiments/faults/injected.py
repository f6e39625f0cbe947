"""`experiments.train` with a fault put in from outside, at a step counted from 1:

  python -m experiments.faults.injected --inject=nan@37 -- --config=... --workdir=...

nan@STEP: the parameters become NaN before that step. bug@STEP: the data source raises an error of Python's there.
stall@STEP: the data source never gives that step's batch, and says "stalled." first. validate@STEP: the first
validation from that step on says "validating." and takes seconds. Everything after the two dashes are flags of
`experiments.train`.
"""

import runpy
import sys
import time
from collections.abc import Callable, Sequence

from gdm.runs.exits import EXIT_BAD_INPUT

STALLED, VALIDATING = "stalled.", "validating."
_VALIDATION_SECONDS = 5.0


def poison(step: int) -> None:
  """Make the parameters NaN before `step`, outside the compiled step, which so stays the one it was."""
  import dataclasses

  import jax

  from gdm.training import loop

  compile_whole = loop.LoweredStep.compile

  def compile_with_fault(self):
    compiled = compile_whole(self)

    def call(state, *rest):
      if int(state.step) + 1 == step:
        nans = jax.tree.map(lambda leaf: jax.device_put(leaf * float("nan"), leaf.sharding), state.params)
        state = dataclasses.replace(state, params=nans)
      return compiled.call(state, *rest)

    return dataclasses.replace(compiled, call=call)

  loop.LoweredStep.compile = compile_with_fault


def stall(step: int) -> None:
  """Lets the data source wait forever instead of giving the batch of `step`."""
  from gdm.data.loader import Loader

  next_batches, calls = Loader.next_batches, 0

  def next_or_never(self, k=None):
    nonlocal calls
    calls += k or 1
    if calls >= step:
      print(STALLED, flush=True)
      while True:
        time.sleep(3600)
    return next_batches(self, k)

  Loader.next_batches = next_or_never


def bug(step: int) -> None:
  """Lets the data source divide by zero instead of giving the batch of `step`."""
  from gdm.data.loader import Loader

  next_batches, calls = Loader.next_batches, 0

  def next_or_error(self, k=None):
    nonlocal calls
    calls += k or 1
    if calls >= step:
      divmod(calls, 0)
    return next_batches(self, k)

  Loader.next_batches = next_or_error


def validate(step: int) -> None:
  """Lets the first validation from `step` on take seconds, which change no number."""
  from gdm.runs.run import Run

  score, done = Run.score, False

  first = step

  def score_slowly(self, state, step):
    nonlocal done
    if step >= first and not done:
      done = True
      print(VALIDATING, flush=True)
      time.sleep(_VALIDATION_SECONDS)
    return score(self, state, step)

  Run.score = score_slowly


INJECTORS: dict[str, Callable[[int], None]] = {"nan": poison, "bug": bug, "stall": stall, "validate": validate}


def main(argv: Sequence[str]) -> None:
  name, _, step = argv[1].removeprefix("--inject=").partition("@") if len(argv) > 1 else ("", "", "")
  if name not in INJECTORS or not step.isdigit() or argv[2:3] != ["--"]:
    print(f"error: usage: --inject={'|'.join(INJECTORS)}@STEP -- <flags of experiments.train>", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
  INJECTORS[name](int(step))
  sys.argv = ["experiments.train", *argv[3:]]
  runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  main(sys.argv)
