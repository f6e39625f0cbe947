"""A data source that gives no more batches, on a network file system say, must not hold a run's machines for ever."""

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from gdm.training.loop import BatchSource


class StallGuard:
  """A batch source that calls `on_stall(seconds)`, from a thread of its own, once a batch takes that long to come.

  With 0 seconds it never does.
  """

  def __init__(self, batches: BatchSource, seconds: float, on_stall: Callable[[float], None]):
    self._batches, self._seconds, self._on_stall = batches, seconds, on_stall
    self._since: float | None = None
    self._done = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True, name="stall-guard")

  def __enter__(self) -> "StallGuard":
    if self._seconds:
      self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._done.set()

  def next_batches(self, k: int | None = None) -> Mapping[str, np.ndarray]:
    self._since = time.monotonic()
    try:
      return self._batches.next_batches(k)
    finally:
      self._since = None

  def _watch(self) -> None:
    while not self._done.wait(min(1.0, self._seconds / 4)):
      since = self._since
      if since is not None and time.monotonic() - since > self._seconds:
        self._on_stall(self._seconds)
        return
