"""Ctrl-C, SIGTERM, SIGUSR2 and a time limit: heard at any moment, and when a run stops for them.

SIGTERM is what machines that are taken away send (Google's by way of their shutdown, Kubernetes, SLURM's preemption),
SIGUSR2 what submitit has SLURM send before a job's time is up.
"""

import contextlib
import math
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interruption:
  """Hears SIGINT, SIGTERM, SIGUSR2 and a time limit within its `with` block, in a thread of its own.

  It calls `stop` at once, even while the main thread waits for a device or a compiler; that is right wherever all that
  was done is on disk. Within `deferred()` it only raises a flag, `interruption()`, so that a step can end and be saved;
  a second Ctrl-C stops at once there, too.
  """

  def __init__(self, stop: Callable[[], object], seconds: float | None = None, since: float | None = None):
    """To be entered in the main thread.

    Args:
      stop: ends the process; called in the main thread or in another one.
      seconds: the time limit, which is not heard before `start_clock`; None for none.
      since: the `time.monotonic()` from which it counts; now by default.
    """
    self._outermost = stop
    self._stop: Callable[[], object] | None = stop  # None while stopping is deferred
    self._asked = False
    self._end = math.inf if seconds is None else seconds + (time.monotonic() if since is None else since)
    self._clock_runs = self._closed = False
    # Held by whoever stops, so that the main thread does not go on meanwhile to what must not be cut.
    self._changing = threading.RLock()

  def __enter__(self) -> "Interruption":
    self._reader, self._writer = socket.socketpair()
    self._writer.setblocking(False)
    # A handler in Python has to wait for the main thread; the number that is written to this socket does not.
    self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
    self._old = {number: signal.signal(number, lambda number, frame: None) for number in SIGNALS}
    self._thread = threading.Thread(target=self._listen, daemon=True, name="interruption")
    self._thread.start()
    return self

  def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
               traceback: TracebackType | None) -> None:
    for number, handler in self._old.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._old_fd)
    self._closed = True
    self._wake()
    self._thread.join()
    self._reader.close()
    self._writer.close()

  def __call__(self) -> bool:
    """Return whether it was asked to stop."""
    return self._asked or self._is_late

  def start_clock(self) -> None:
    """Let the time limit be heard from here on: a start that is stopped before it did anything would never end."""
    self._clock_runs = True
    self._wake()

  def deferred(self) -> contextlib.AbstractContextManager[None]:
    """Within this context, a signal only raises the flag."""
    return self._within(None)

  def at_once(self, stop: Callable[[], object] | None = None) -> contextlib.AbstractContextManager[None]:
    """Within this context, a signal, also an earlier one, calls `stop`; by default that of the whole."""
    return self._within(stop or self._outermost)

  @contextlib.contextmanager
  def _within(self, stop: Callable[[], object] | None) -> Iterator[None]:
    with self._changing:
      before, self._stop = self._stop, stop
      if stop is not None and self():
        stop()
    try:
      yield
    finally:
      with self._changing:
        self._stop = before

  @property
  def _is_late(self) -> bool:
    return self._clock_runs and time.monotonic() >= self._end

  def _wake(self) -> None:
    with contextlib.suppress(BlockingIOError):  # so many are waiting that it wakes anyway
      self._writer.send(b"\0")

  def _listen(self) -> None:
    while True:
      waits = self._clock_runs and not self._asked and math.isfinite(self._end)
      ready, _, _ = select.select([self._reader], [], [], max(0.0, self._end - time.monotonic()) if waits else None)
      numbers = self._reader.recv(4096) if ready else b""
      if self._closed:
        return
      for number in numbers:
        if number in SIGNALS:
          self._hear(again=self._asked and number == signal.SIGINT)
      if self._is_late and not self._asked:
        self._hear(again=False)

  def _hear(self, again: bool) -> None:
    with self._changing:
      self._asked = True
      if self._stop is not None:
        self._stop()
      elif again:
        self._outermost()
