"""Batches: an endless shuffled stream for training whose position is state, and ordered passes that miss no example.

Training reads one long line of examples: epoch 0's permutation, then epoch 1's, and so on; batch i is the i-th stretch
of it. So every batch is full, and no example is ever dropped: what an epoch leaves over opens the next one's first
batch (which may hold an example twice, once from each epoch). The position is (seed, epoch, index) and nothing else.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Integer

from gdm import checks
from gdm.data import draws
from gdm.data.dataset import Dataset
from gdm.data.split import Indices, Split
from gdm.errors import ConfigError, DataError

HostBatch = dict[str, np.ndarray]
Rows = Integer[np.ndarray, " rows"]

# On disk, decoding takes the time: so many minibatches are read ahead, by so many threads.
_DISK_THREADS = 16
_DISK_AHEAD = 32
_LARGE = 1 << 22  # examples whose order takes 32 MiB, and the third of a second to write out
_BLOCK = 1 << 12  # places of a larger order that are computed together


class Loader:
  """The endless stream of training batches, or of the rows of them that one process serves.

  Args:
    dataset: its "train" split is read; in memory by indexing, on disk ahead of time by Grain's threads. Both give the
      same batches.
    batch_size: examples per minibatch over all processes.
    seed: of the order of each epoch.
    minibatches: how many a step takes, the sum of its objectives' repeats.
    rows: which rows of every minibatch to serve, ascending: those that this process's devices hold
      (`gdm.mesh.local_rows`); all by default.

  Raises:
    ConfigError: a batch size that is not positive, or rows that are none of such a batch.
    DataError: no "train" split, or one smaller than a minibatch.
  """

  def __init__(self, dataset: Dataset, batch_size: int, *, seed: int, minibatches: int = 1,
               rows: Rows | None = None):
    require_examples(dataset, batch_size)
    self._split = dataset.split("train")
    self._rows = _rows(batch_size, rows)
    self._order = _Order(seed, self._split.num_examples)
    self._batch_size = batch_size
    self._minibatches = minibatches
    self._next = 0  # number of the next minibatch
    self._ahead: Iterator[HostBatch] | None = None
    self._identity = {"seed": seed, "batch_size": batch_size, "num_examples": self._split.num_examples,
                      "fingerprint": self._split.identity}

  def next_batches(self, k: int | None = None) -> HostBatch:
    """Return the batch of one step [minibatches, batch, *event], or of k steps [k, minibatches, batch, *event]."""
    num = self._minibatches * (1 if k is None else k)
    rows = self._read_memory(num) if self._split.in_memory else self._read_disk(num)
    self._next += num
    lead = (self._minibatches, len(self._rows))
    lead = lead if k is None else (k, *lead)
    return {key: value.reshape(lead + value.shape[1:]) for key, value in rows.items()}

  def next_places(self, k: int) -> Integer[np.ndarray, "k minibatches rows"]:
    """Return which examples of the split `next_batches(k)` would give, and move on as it does."""
    num = self._minibatches * k
    places = np.concatenate([examples for _, examples in self._examples(self._next, num)])
    self._next += num
    return places.reshape(k, self._minibatches, len(self._rows)).astype(np.int32)

  def batch_shapes(self, k: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of what `next_batches(k)` gives."""
    rows, lead = self._split.draw(np.arange(1), 0), (k, self._minibatches, len(self._rows))
    return {key: jax.ShapeDtypeStruct(lead + value.shape[1:], value.dtype) for key, value in rows.items()}

  def get_state(self) -> dict[str, Any]:
    """Return the stream's position in plain values: `index` examples into `epoch`, and what the position is about."""
    epoch, index = divmod(self._next * self._batch_size, self._split.num_examples)
    return {"epoch": epoch, "index": index, **self._identity}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Continue from a state of `get_state`.

    Raise DataError naming the field where the state is of another seed, batch size or data, or is no position.
    """
    for field, value in self._identity.items():
      if field not in state or state[field] != value:
        raise DataError(f"the saved data position has {field} {state.get(field)!r}, but this run has {value!r}; a "
                        "position only holds for the same data, batch size and seed.")
    position = state.get("epoch", -1) * self._split.num_examples + state.get("index", -1)
    if position < 0 or position % self._batch_size:
      raise DataError(f"the saved data position, epoch {state.get('epoch')!r} and index {state.get('index')!r}, is not "
                      f"at the start of a batch of {self._batch_size}.")
    self._next = position // self._batch_size
    self._close()

  def _read_memory(self, num: int) -> HostBatch:
    """Return the next `num` minibatches, rows one after the other."""
    parts = [self._split.draw(examples, epoch) for epoch, examples in self._examples(self._next, num)]
    return parts[0] if len(parts) == 1 else {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

  def _read_disk(self, num: int) -> HostBatch:
    if self._ahead is None:
      self._ahead = _read_ahead(self._read_one, self._next)
    batches = list(itertools.islice(self._ahead, num))
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}

  def _read_one(self, number: int) -> HostBatch:
    parts = [self._split.draw(examples, epoch) for epoch, examples in self._examples(number, 1)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

  def _examples(self, first: int, num: int) -> Iterator[tuple[int, Indices]]:
    """This process's examples of `num` minibatches, epoch by epoch."""
    start, stop = first * self._batch_size, (first + num) * self._batch_size
    for epoch, offset, examples in self._order.stretch(start, stop):
      if len(self._rows) < self._batch_size:
        examples = examples[np.isin((offset + np.arange(len(examples))) % self._batch_size, self._rows)]
      if len(examples):
        yield epoch, examples

  def _close(self) -> None:
    """Forget what was read ahead."""
    close = getattr(self._ahead, "close", None)
    if close is not None:
      close()
    self._ahead = None


def require_examples(dataset: Dataset, batch_size: int) -> None:
  """Raise DataError where a minibatch has more examples than the "train" split, before its rows are written out."""
  num = dataset.split("train").num_examples
  if batch_size > num:
    raise DataError(f"data.batch_size is {batch_size}, but the training split of {dataset.name} has only {num} "
                    "examples.")


class _Order:
  """The line of examples: one permutation per epoch, each made when it is first read; of more than `_LARGE` examples
  never written out."""

  def __init__(self, seed: int, num_examples: int):
    self._seed = seed
    self._num = num_examples
    self._cached: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
    self._lock = threading.Lock()
    self._blocks = functools.lru_cache(maxsize=64)(self._block)

  def stretch(self, start: int, stop: int) -> Iterator[tuple[int, int, Indices]]:
    """(epoch, offset from the start of the line, examples) of places [start, stop) of the line."""
    while start < stop:
      epoch, index = divmod(start, self._num)
      num = min(stop - start, self._num - index)
      yield epoch, start, self._places(epoch, index, num)
      start += num

  def _places(self, epoch: int, index: int, num: int) -> Indices:
    if self._num <= _LARGE:
      return self._permutation(epoch)[index:index + num]
    first, last = index // _BLOCK, (index + num - 1) // _BLOCK
    found = np.concatenate([self._blocks(epoch, number) for number in range(first, last + 1)])
    return found[index - first * _BLOCK:][:num]

  def _block(self, epoch: int, number: int) -> Indices:
    """Return `_BLOCK` places of an order, since many at once are computed as fast as a few."""
    stop = min((number + 1) * _BLOCK, self._num)
    return draws.permuted(self._seed, epoch, self._num, np.arange(number * _BLOCK, stop))

  def _permutation(self, epoch: int) -> Integer[np.ndarray, " num"]:
    with self._lock:  # or each of the threads that read ahead would make one of its own
      cached_epoch, order = self._cached
      if cached_epoch != epoch:
        order = draws.permutation(self._seed, epoch, self._num)
        self._cached = (epoch, order)
      return order


def eval_batches(dataset: Dataset, split: str, batch_size: int, *, rows: Rows | None = None) -> Iterator[HostBatch]:
  """Every example of the split exactly once, in order, with "mask" [batch], 1 for a real example.

  The last batch is filled up with copies of the split's last example, whose mask is 0, so all batches have one shape.
  `rows` are those of every batch to serve, as in `Loader`.
  """
  examples, rows = dataset.split(split), _rows(batch_size, rows)
  last = examples.num_examples - 1

  def read(number: int) -> HostBatch:
    places = number * batch_size + rows
    return {**examples.rows(np.minimum(places, last)), "mask": (places <= last).astype(np.float32)}

  return _in_order(read, -(-examples.num_examples // batch_size), examples)


class Passes:
  """The training split as something to iterate over again and again, for `solve`.

  Each pass serves every example once, in order and in its fixed form; the last batch may be smaller.
  """

  def __init__(self, dataset: Dataset, batch_size: int, split: str = "train"):
    self._split: Split = dataset.split(split)
    self._batch_size = batch_size

  def __len__(self) -> int:
    return -(-self._split.num_examples // self._batch_size)

  def __iter__(self) -> Iterator[HostBatch]:
    def read(number: int) -> HostBatch:
      start = number * self._batch_size
      return self._split.rows(slice(start, min(start + self._batch_size, self._split.num_examples)))

    return _in_order(read, len(self), self._split)


def _rows(batch_size: int, rows: Rows | None) -> Rows:
  """Return the rows of each batch to serve, checked."""
  checks.at_least("data.batch_size", batch_size, 1)
  rows = np.arange(batch_size) if rows is None else rows
  if not len(rows) or rows[0] < 0 or rows[-1] >= batch_size or np.any(np.diff(rows) < 1):
    raise ConfigError(f"rows is {rows}; it must be ascending rows of a batch of {batch_size}, at least one.")
  return rows


def _in_order(read: Callable[[int], HostBatch], num: int, split: Split) -> Iterator[HostBatch]:
  """Return read(0), ..., read(num - 1); of a split on disk, read ahead by Grain's threads."""
  return map(read, range(num)) if split.in_memory or num < 2 else _read_ahead(read, 0, num)


def _read_ahead(read_one: Callable[[int], HostBatch], first: int, stop: int = 2**62) -> Iterator[HostBatch]:
  """read_one(first), read_one(first + 1), ... in order, read ahead by Grain's threads."""
  import grain  # here, since importing it takes half a second and data in memory does without

  numbers = grain.MapDataset.range(first, stop)
  options = grain.ReadOptions(num_threads=_DISK_THREADS, prefetch_buffer_size=_DISK_AHEAD)
  return iter(numbers.map(read_one).to_iter_dataset(options))
