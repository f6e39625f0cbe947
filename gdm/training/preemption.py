"""Ctrl-C and SIGTERM finish the step, save, and exit; a second Ctrl-C stops at once."""

import signal
from types import FrameType, TracebackType


class Interruption:
  """Within its `with` block, SIGINT and SIGTERM only raise a flag: `interruption()` is true from then on."""

  def __init__(self) -> None:
    self.signal: signal.Signals | None = None

  def __enter__(self) -> "Interruption":
    self._old = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    return self

  def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
               traceback: TracebackType | None) -> None:
    for number, handler in self._old.items():
      signal.signal(number, handler)

  def __call__(self) -> bool:
    return self.signal is not None

  def _on_signal(self, number: int, frame: FrameType | None) -> None:
    if self.signal is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.signal = signal.Signals(number)
