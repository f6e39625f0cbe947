"""One split of a data set: rows to read by index, in memory or on disk, and operations on them.

A split reads like a mapping from names ("x", "y", "length") to arrays whose first axis is the example. Training may
serve an example anew in every epoch (binarization afresh, windows at random offsets): `draw` gives that epoch's form of
it, `rows` and the mapping give its fixed form.

A split of a data set knows what its spec promises and serves nothing else: in memory all rows are checked before the
first are read, on disk (and where epochs differ) each row as it is read, which costs no pass of its own.
"""

import abc
import copy
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Integer

from gdm.batches import check_rows
from gdm.dataspec import DataSpec
from gdm.errors import DataError

Rows = Mapping[str, np.ndarray]
Indices = Integer[np.ndarray, " batch"]
# op(rows, examples, epoch) -> rows: changes each row by itself, knowing which example and epoch it is.
Op = Callable[[Rows, Indices, int], Rows]

_CHUNK_VALUES = 1 << 23  # values per chunk of a whole-split pass, so that temporaries stay small


class Split(Mapping[str, Any]):
  """A mapping from names to arrays (or what indexes like arrays), and what the loader and the transforms ask of it."""

  in_memory: bool
  promise: DataSpec | None = None  # what rows are held to; None for a split of no data set

  @property
  @abc.abstractmethod
  def num_examples(self) -> int: ...

  @abc.abstractmethod
  def promising(self, spec: DataSpec, where: str) -> "Split":
    """Return the split with rows held to the spec: reading others raises a DataError that begins with `where`."""

  @abc.abstractmethod
  def rows(self, examples: Indices | slice) -> dict[str, np.ndarray]:
    """Return the fixed form of these examples."""

  @abc.abstractmethod
  def draw(self, examples: Indices, epoch: int) -> dict[str, np.ndarray]:
    """Return the form that these examples take in this epoch of training."""

  @abc.abstractmethod
  def map(self, op: Op, fresh: bool = False) -> "Split":
    """Return the split with `op` done to its rows; `fresh` if epochs differ, else it is done once (in memory)."""

  @functools.cached_property
  def digest(self) -> str:
    """16 hex digits of the sha256 of names, dtypes, shapes and bytes of the fixed form of all rows."""
    return _digest(self, (rows for _, rows in chunks(self)))

  @property
  def identity(self) -> str:
    """16 hex digits that tell this split from another: the digest where that is cheap."""
    return self.digest


def chunks(split: Split, num_values: int = _CHUNK_VALUES) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
  """(examples, rows) of the whole split in order, about `num_values` values of x at a time."""
  if split.num_examples == 0:
    return
  for part in _parts(split.num_examples, split.rows(slice(0, 1))["x"].size, num_values):
    yield np.arange(part.start, part.stop), split.rows(part)


def _parts(num_examples: int, values_each: int, num_values: int = _CHUNK_VALUES) -> Iterator[slice]:
  size = max(1, num_values // max(1, values_each))
  for start in range(0, num_examples, size):
    yield slice(start, min(start + size, num_examples))


def _digest(split: Split, parts: Iterable[Rows]) -> str:
  """Return the digest of a split of which `parts` are the rows, or the first rows; in parts, so that none need be
  large."""
  hashes = {key: hashlib.sha256() for key in split}
  head: dict[str, str] = {}
  for rows in parts:
    for key, hasher in hashes.items():
      head[key] = f"{key} {rows[key].dtype.str} {(split.num_examples, *rows[key].shape[1:])} "
      hasher.update(np.ascontiguousarray(rows[key]).data)
  lines = [head.get(key, key) + hashes[key].hexdigest() for key in sorted(hashes)]
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


class MemorySplit(Split):
  """A split whose arrays [N, ...] are in memory; they are made read-only, since batches may be views of them."""

  in_memory = True

  def __init__(self, arrays: Rows, source: Rows | None = None, fresh_ops: tuple[Op, ...] = ()):
    """`source` and `fresh_ops`: what `draw` starts from and does, where epochs differ; without them draw is rows."""
    self._arrays = {key: _frozen(value) for key, value in arrays.items()}
    self._source = self._arrays if source is None else {key: _frozen(value) for key, value in source.items()}
    self._fresh_ops = fresh_ops
    self._where = ""
    self._is_checked = False

  def __getitem__(self, key: str) -> np.ndarray:
    return self._arrays[key]

  def __iter__(self) -> Iterator[str]:
    return iter(self._arrays)

  def __len__(self) -> int:
    return len(self._arrays)

  @property
  def num_examples(self) -> int:
    return len(self._arrays["x"])

  @property
  def is_fixed(self) -> bool:
    """Whether all epochs are alike, so that `draw` gives what `rows` gives."""
    return not self._fresh_ops

  def promising(self, spec: DataSpec, where: str) -> "MemorySplit":
    split = copy.copy(self)
    split.promise, split._where, split._is_checked = spec, where, False
    return split

  def check(self) -> None:
    """Raise a DataError where rows are not what the spec promises; looks once."""
    if self.promise is not None and not self._is_checked:
      for part in _parts(self.num_examples, self._arrays["x"][:1].size):
        check_rows(self.promise, _take(self._arrays, part), self._where, np.arange(part.start, part.stop))
      self._is_checked = True

  def rows(self, examples: Indices | slice) -> dict[str, np.ndarray]:
    self.check()
    return _take(self._arrays, examples)

  def draw(self, examples: Indices, epoch: int) -> dict[str, np.ndarray]:
    if not self._fresh_ops:
      return self.rows(examples)
    rows: Rows = _take(self._source, examples)
    for op in self._fresh_ops:
      rows = op(rows, examples, epoch)
    if self.promise is not None:
      check_rows(self.promise, rows, self._where, examples)
    return dict(rows)

  def map(self, op: Op, fresh: bool = False) -> "MemorySplit":
    pieces = [op(rows, examples, 0) for examples, rows in chunks(self)]
    arrays = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]} if pieces else self._arrays
    if fresh or self._fresh_ops:
      return MemorySplit(arrays, self._source, (*self._fresh_ops, op))
    return MemorySplit(arrays)

  def augmented(self, op: Op) -> "MemorySplit":
    """Return the split that does `op` to what it draws in training; its fixed form stays as it is."""
    return MemorySplit(self._arrays, self._source, (*self._fresh_ops, op))


class DiskSplit(Split):
  """A split too large for memory: each read decodes its rows anew, operations included."""

  in_memory = False

  def __init__(self, name: str, num_examples: int, keys: tuple[str, ...],
               read: Callable[[Indices], Rows], ops: tuple[Op, ...] = (), content: str = "",
               fresh: Callable[[Indices, int], Rows] | None = None):
    """`read(examples) -> rows` must be safe to call from several threads.

    `content` tells the stored bytes that this split is read from, and which part of them, from all others.
    `fresh(examples, epoch) -> rows` is what training reads instead, where epochs differ.
    """
    self.name = name
    self._content = content
    self._num_examples = num_examples
    self._keys = keys
    self._read = read
    self._ops = ops
    self._fresh = fresh
    self._where = ""

  def promising(self, spec: DataSpec, where: str) -> "DiskSplit":
    split = copy.copy(self)
    split.promise, split._where = spec, where
    return split

  def __getitem__(self, key: str) -> "DiskColumn":
    if key not in self._keys:
      raise KeyError(key)
    return DiskColumn(self, key)

  def __iter__(self) -> Iterator[str]:
    return iter(self._keys)

  def __len__(self) -> int:
    return len(self._keys)

  @property
  def num_examples(self) -> int:
    return self._num_examples

  def rows(self, examples: Indices | slice) -> dict[str, np.ndarray]:
    if isinstance(examples, slice):
      examples = np.arange(*examples.indices(self._num_examples))
    return self._served(self._read(examples), examples, 0)

  def draw(self, examples: Indices, epoch: int) -> dict[str, np.ndarray]:
    return self._served(self._fresh(examples, epoch) if self._fresh else self._read(examples), examples, epoch)

  def _served(self, rows: Rows, examples: Indices, epoch: int) -> dict[str, np.ndarray]:
    for op in self._ops:
      rows = op(rows, examples, epoch)
    if self.promise is not None:
      check_rows(self.promise, rows, self._where, examples)
    return dict(rows)

  def map(self, op: Op, fresh: bool = False) -> "DiskSplit":
    del fresh  # every read is fresh
    return DiskSplit(self.name, self._num_examples, self._keys, self._read, (*self._ops, op), self._content,
                     self._fresh)

  @property
  def identity(self) -> str:
    """16 hex digits of all stored bytes, and of 64 rows as served, which show what transforms make of them."""
    spread = np.unique(np.linspace(0, self._num_examples - 1, 64).astype(int))
    return hashlib.sha256(f"{self._content} {_digest(self, [self.rows(spread)])}".encode()).hexdigest()[:16]


class DiskColumn:
  """One array of a DiskSplit, read where it is indexed: `split["x"][:8]` decodes eight examples."""

  def __init__(self, split: DiskSplit, key: str):
    self._split = split
    self._key = key

  def __len__(self) -> int:
    return self._split.num_examples

  def __getitem__(self, examples: int | slice | Indices) -> np.ndarray:
    if isinstance(examples, int | np.integer):
      return self._split.rows(np.array([examples]) % len(self))[self._key][0]
    if not isinstance(examples, slice):
      examples = np.asarray(examples)
    return self._split.rows(examples)[self._key]

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    raise DataError(f"{self._split.name} is left on disk, since its {len(self)} examples do not fit in memory; read it "
                    "in batches (Loader, eval_batches, Passes) or index a part of it.")


def as_split(rows: Mapping[str, Any]) -> Split:
  """Return a plain mapping of arrays as a split in memory; splits pass through."""
  return rows if isinstance(rows, Split) else MemorySplit(rows)


def _frozen(array: np.ndarray) -> np.ndarray:
  view = np.asarray(array).view()
  view.flags.writeable = False
  return view


def _take(arrays: Rows, examples: Indices | slice) -> dict[str, np.ndarray]:
  if isinstance(examples, slice):
    return {key: value[examples] for key, value in arrays.items()}
  return {key: np.take(value, examples, axis=0) for key, value in arrays.items()}
