"""A trace of a few steps, for TensorBoard's profiler or ui.perfetto.dev."""

from collections.abc import Callable
from pathlib import Path

import jax

from gdm.errors import ConfigError
from gdm.training import hosts
from gdm.training.loop import Hook
from gdm.training.state import TrainState


class Profile:
  """Traces steps `first` to `last` into a folder, as `hook` of a loop with `steps_per_call`."""

  def __init__(self, text: str, folder: Path, steps_per_call: int):
    """Read FIRST:LAST. Raise ConfigError where it is none."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
      raise ConfigError(f"--profile_steps is {text!r}; it must be FIRST:LAST, as 10:15.")
    self._first, self._last, self._folder = int(first), int(last), folder
    self._is_tracing = False
    self.hook = Hook(steps_per_call, self._after)

  def start(self, step: int) -> None:
    """Begins, where the next step is one to trace; to be called before the loop."""
    if hosts.is_first() and not self._is_tracing and self._first - 1 <= step < self._last:
      # Perfetto's file beside TensorBoard's own.
      jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
      self._is_tracing = True

  def stop(self, say: Callable[[str], None] = print) -> None:
    """End a trace under way."""
    if self._is_tracing:
      self._is_tracing = False
      jax.profiler.stop_trace()
      say(f"profile of steps up to {self._last} in {self._folder}: tensorboard --logdir {self._folder}, or its "
          "perfetto_trace.json.gz in ui.perfetto.dev.")

  def _after(self, state: TrainState, step: int) -> None:
    if step >= self._last:
      jax.block_until_ready(state)
      self.stop()
    self.start(step)
