"""How training batches come to the devices: `data.feed`.

  host     host arrays go into the compiled step, which places them: fastest on a CPU, whose memory they are in already
  device   the training split lies on the devices, and each step takes its rows there by index: the host sends their
           numbers. For splits in memory, of up to 1 GiB, that are the same in every epoch
  ahead    a thread places the next two batches while a step runs
  auto     host on a CPU; elsewhere device where that can be, else ahead

All give the same batches in the same order, and the same position to resume from: that of the batches that were
taken, not of those that were read ahead.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gdm import mesh as meshes
from gdm import platforms
from gdm.data.loader import Loader
from gdm.data.split import MemorySplit, Split
from gdm.errors import ConfigError

WAYS = ("auto", "host", "device", "ahead")
MOST_ON_DEVICE = 1 << 30  # bytes of a training split, which every device holds whole
AHEAD = 2  # calls whose batches are placed before they are asked for


def choose_way(way: str, split: Split) -> str:
  """Return "host", "device" or "ahead" for `data.feed`. Raise ConfigError where the data rule the way out."""
  why = _why_not_on_device(split)
  if way == "device" and why:
    raise ConfigError(f"data.feed is 'device', but the training split {why}; choose 'ahead'.")
  if way != "auto":
    return way
  return "host" if platforms.backend() == "cpu" else "ahead" if why else "device"


def _why_not_on_device(split: Split) -> str:
  """Return why a split cannot be served from the devices, as the end of a sentence; "" where it can."""
  if not isinstance(split, MemorySplit):
    return "is on disk"
  if not split.is_fixed:
    return "changes from epoch to epoch"
  size = sum(np.asarray(split[name]).nbytes for name in split)
  return f"has {size / 2**30:.1f} GiB, and {MOST_ON_DEVICE >> 30} fit" if size > MOST_ON_DEVICE else ""


class Feed:
  """A loader's batches, brought to the devices of a mesh in one of the ways above; use it as a context.

  Args:
    loader: serves this process's rows.
    split: the training split that it reads.
    mesh: the devices.
    way: a value of `data.feed`.

  Example:

    with Feed(loader, dataset.split("train"), mesh, "ahead") as feed:
      fit(compiled, state, feed, key=key, num_steps=1000)
  """

  def __init__(self, loader: Loader, split: Split, mesh: Mesh, way: str = "auto"):
    self.way = choose_way(way, split)
    self._loader, self._split = loader, split
    self._mesh, self._sharding = mesh, meshes.batch_sharding(mesh, leading_axes=2)
    self._gather: Callable[[Any], Any] | None = None
    self._ahead: _Ahead | None = None

  def __enter__(self) -> "Feed":
    return self

  def __exit__(self, *_: object) -> None:
    self._stop()

  def next_batches(self, k: int | None = None) -> Mapping[str, Any]:
    """Return the batches of the next k steps, [k, minibatches, batch, *event], on the host or on the devices."""
    if self.way == "host" or k is None:
      self._stop()
      return self._loader.next_batches(k)
    if self.way == "device":
      self._gather = self._gather or self._on_device()
      return self._gather(meshes.put_batch(self._loader.next_places(k), self._sharding))
    if self._ahead is None or self._ahead.k != k:
      self._stop()
      self._ahead = _Ahead(self._loader, self._sharding, k)
    return self._ahead.next()

  def batch_shapes(self, k: int) -> dict[str, jax.ShapeDtypeStruct]:
    return self._loader.batch_shapes(k)

  def get_state(self) -> dict[str, Any]:
    """Return the position after the last batch that was taken; see `Loader.get_state`."""
    return self._loader.get_state() if self._ahead is None else self._ahead.state

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Continue from a state of `get_state`."""
    self._stop()
    self._loader.set_state(state)

  def _on_device(self) -> Callable[[Any], Any]:
    """Place the training split on every device; return a function from places to rows there."""
    self._split.rows(slice(0, 1))  # checks all rows
    rows = meshes.replicate({name: np.asarray(self._split[name]) for name in self._split}, self._mesh)
    gather = jax.jit(lambda rows, places: {name: jnp.take(x, places, axis=0, mode="clip") for name, x in rows.items()},
                     out_shardings=self._sharding)
    return lambda places: gather(rows, places)

  def _stop(self) -> None:
    """End reading ahead, and go back to the batch after the last one that was taken."""
    if self._ahead is not None:
      state, ahead = self._ahead.state, self._ahead
      self._ahead = None
      ahead.close()
      self._loader.set_state(state)


class _Ahead:
  """A thread that places batches before they are asked for.

  Attributes:
    k: steps of a batch.
    state: the loader's position after the last batch that was taken.
  """

  def __init__(self, loader: Loader, sharding: Any, k: int):
    self.k, self.state = k, loader.get_state()
    self._loader, self._sharding = loader, sharding
    self._found: queue.Queue = queue.Queue(AHEAD)
    self._done = threading.Event()
    self._thread = threading.Thread(target=self._work, daemon=True, name="feed")
    self._thread.start()

  def next(self) -> Mapping[str, Any]:
    batch, state, error = self._found.get()
    if error is not None:
      self._found.put((None, None, error))  # whoever asks again is told again
      raise error
    self.state = state
    return batch

  def close(self) -> None:
    self._done.set()
    self._thread.join(timeout=10.0)  # a source that gives nothing more must not hold the run

  def _work(self) -> None:
    while not self._done.is_set():
      try:
        item = meshes.put_batch(self._loader.next_batches(self.k), self._sharding), self._loader.get_state(), None
      except BaseException as error:  # the loop raises it, when it comes to this batch
        item = None, None, error
      while not self._done.is_set():
        try:
          self._found.put(item, timeout=0.1)
          break
        except queue.Full:
          continue
      if item[2] is not None:
        return
