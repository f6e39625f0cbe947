"""A data set: its spec, its splits, and what is known about it."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdm.data.split import MemorySplit, Op, Split, as_split, chunks
from gdm.data.tokens import Tokenizer
from gdm.dataspec import DataSpec
from gdm.errors import DataError, nearest

SPLITS = ("train", "valid", "test")
MOST_LEVELS = 2**31  # what int32, the widest integer that is served, can count
MOST_ROUNDING = 1e-14  # deviation of equal float64 numbers, as a share of their magnitude
MOST_LOST = 1e-3  # largest rounding error by float32, in deviations of a dimension over the training split

_UNKNOWN: Mapping[str, Any] = {"log_prob": None, "modes": None, "tokenizer": None, "sample_rate": None, "units": {}}


class Modes(NamedTuple):
  """The equal parts of a known mixture of Gaussians: their centres, and the deviation that all have in each dimension.
  """

  centers: Float[np.ndarray, "modes *event"]
  deviation: Float[np.ndarray, "*event"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Named splits of examples of one kind.

  Attributes:
    name: what the set is called in results; transforms that change the data are part of it.
    spec: the kind of one example, as served. It has lengths where a split has them.
    splits: "train", "valid", "test" (text has no "test"), each a mapping to "x" [N, *event], "y" [N] where there are
      labels, "context" [N, context_dims] and "prefix" [N, prefix_steps] where there is such a condition, "length" [N]
      for sequences. Plain mappings of arrays become splits in memory.
    info: plain facts for a record: where it came from, by which rule it was split, by what it was standardized.
    log_prob: the true log density in nats, [N, *event] -> [N], where it is known (toy densities).
    modes: the parts of the true density, where it is a mixture whose modes can be counted.
    tokenizer: turns text into x and back, where x is text.
    prefix_tokenizer: turns text into the prefix and back, where that is text; see gdm/data/captions.py.
    sample_rate: samples per second, where x is sound in 8-bit mu-law (see gdm/data/mu_law.py).
    units: of text, by split, how many "tokens", "characters" and "unknown" tokens it has: what likelihood is per.
    transforms: names of those that were done to it, in order.
    raw_spec: the kind of one example before them; None where it is `spec`.
  """

  name: str
  spec: DataSpec
  splits: Mapping[str, Mapping[str, Any]]
  info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  log_prob: Callable[[Float[np.ndarray, "batch *event"]], Float[np.ndarray, " batch"]] | None = None
  modes: Modes | None = None
  tokenizer: Tokenizer | None = None
  sample_rate: int | None = None
  units: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
  transforms: tuple[str, ...] = ()
  raw_spec: DataSpec | None = None
  prefix_tokenizer: Tokenizer | None = None

  def __post_init__(self) -> None:
    splits = {name: as_split(split) for name, split in self.splits.items()}
    if any("length" in split for split in splits.values()):  # padding is no data, whoever made the set
      object.__setattr__(self, "spec", dataclasses.replace(self.spec, has_lengths=True))
    promise = dataclasses.replace(self.spec, blocks=())  # which add nothing to what a row must be
    splits = {name: split if split.promise == promise else split.promising(promise, f"{self.name}, split {name}")
              for name, split in splits.items()}
    object.__setattr__(self, "splits", splits)

  def split(self, name: str) -> Split:
    """Return the split of that name. Raise DataError naming the known ones."""
    if name not in self.splits:
      raise DataError(f"{self.name} has no split {name!r}; {nearest(name, self.splits)}")
    return as_split(self.splits[name])

  def num_examples(self, split: str) -> int:
    return self.split(split).num_examples

  def fingerprint(self, split: str) -> str:
    """16 hex digits of the sha256 of names, dtypes, shapes and bytes of all arrays of the split, as served."""
    return self.split(split).digest

  @property
  def identity(self) -> dict[str, str]:
    """Fingerprints of this set: 16 hex digits for every split, and for the vocabulary where there is one."""
    identity = {name: self.split(name).identity for name in self.splits}
    for name, tokenizer in (("vocabulary", self.tokenizer), ("prefix_vocabulary", self.prefix_tokenizer)):
      if tokenizer is not None:
        identity[name] = hashlib.sha256(repr(tuple(tokenizer.vocabulary)).encode()).hexdigest()[:16]
    return identity

  def map(self, op: Op, fresh: bool = False, **changes: Any) -> "Dataset":
    """Return the set with `op` done to the rows of every split, and these attributes replaced.

    The true density, its modes, the tokenizer, the sample rate and the units do not survive a change of the data unless
    `changes` gives the new ones.
    """
    splits = {name: self.split(name).map(op, fresh) for name in self.splits}
    return dataclasses.replace(self, **{"splits": splits, **_UNKNOWN, **changes})


def check(dataset: Dataset) -> None:
  """Raise DataError where a split is empty, or in memory and not what the spec promises.

  What is on disk is checked as it is read.
  """
  for name in dataset.splits:
    split = dataset.split(name)
    where = f"{dataset.name}, split {name}"
    if split.num_examples == 0:
      raise DataError(f"{where}: it is empty; every split needs at least one example.")
    if ("length" in split) != dataset.spec.has_lengths:
      raise DataError(f"{where} has no lengths, but the spec promises them (spec.has_lengths); all splits need them, "
                      "or none.")
    if not isinstance(split, MemorySplit):
      continue
    for key in split:
      if len(split[key]) != split.num_examples:
        raise DataError(f"{where}: {key} has {len(split[key])} rows, but x has {split.num_examples}.")
    split.check()


def as_served(dataset: Dataset) -> Dataset:
  """Return the set in the types that models are given: "x" in the smallest integers or float32, "context" in float32.

  Sources hand on the values of their files, and transforms work on those; only here are they cast, and no cast changes
  data.

  Raises:
    DataError: a value that int32 or float32 cannot hold, or a dimension whose values float32 would blur.
  """
  if not all(dataset.split(name).in_memory for name in dataset.splits):
    return dataset  # decoded images: bytes
  levels = dataset.spec.levels
  if levels is None:
    _check_float32(dataset, "x", "dimension", "standardize")
  elif levels > MOST_LEVELS:
    raise DataError(f"{dataset.name} has {levels} levels, values up to {levels - 1}; there may be at most "
                    f"{MOST_LEVELS}: shift it, join values by the `quantize` transform, or save it as floating-point "
                    "numbers.")
  if dataset.spec.context_dims:
    _check_float32(dataset, "context", "context column", "standardize_context")
  dtype = np.float32 if levels is None else smallest_dtype(levels)
  types = {"x": dtype, "context": np.float32} if dataset.spec.context_dims else {"x": dtype}
  if all(dataset.split(name)[key].dtype == kind for name in dataset.splits for key, kind in types.items()):
    return dataset

  def cast(rows: Mapping[str, np.ndarray], examples: np.ndarray, epoch: int) -> Mapping[str, np.ndarray]:
    del examples, epoch
    return {**rows, **{key: rows[key].astype(kind) for key, kind in types.items()}}

  splits = {name: dataset.split(name).map(cast) for name in dataset.splits}
  return dataclasses.replace(dataset, splits=splits)


def _check_float32(dataset: Dataset, key: str, what: str, transform: str) -> None:
  """Raise a DataError where float32 cannot hold a value of "x" or "context", or cannot tell the values of a dimension
  apart."""
  largest = float(np.finfo(np.float32).max)
  lost: Any = 0.0
  for name in dataset.splits:
    for examples, rows in chunks(dataset.split(name)):
      x = rows[key]
      if x.dtype.itemsize <= 4:
        continue
      if (outside := np.abs(x) > largest).any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        place = (int(examples[0]) + index[0], *index[1:])
        raise DataError(f"{dataset.name}, split {name}: the value at index {_show(place)}{_of(key)} is {x[index]}; the "
                        f"largest that float32 holds is {largest:.3g}: choose a larger unit.")
      lost = np.maximum(lost, np.abs(x - x.astype(np.float32)).max(axis=0))
  if not np.any(lost):
    return
  mean, std = column_moments(dataset.split("train" if "train" in dataset.splits else next(iter(dataset.splits))), key)
  is_constant = std <= MOST_ROUNDING * np.abs(mean)
  blurred = np.argwhere((lost > MOST_LOST * std) & ~is_constant)
  if len(blurred):
    index = tuple(int(i) for i in blurred[0])
    raise DataError(f"{dataset.name}: {what} {_show(index)} has mean {mean[index]:.10g} and deviation "
                    f"{std[index]:.4g}, and float32 would round its values by up to {lost[index]:.2g}; add the "
                    f"`{transform}` transform, which works on the file's own values, or subtract an offset.")


def _of(key: str) -> str:
  return "" if key == "x" else f" of {key!r}"


def smallest_dtype(levels: int) -> type[np.integer]:
  """Return the type that discrete data of so many levels is kept in."""
  return np.uint8 if levels <= 256 else np.int32


def _show(index: tuple[int, ...]) -> str:
  return f"[{', '.join(map(str, index))}]"


def column_moments(split: Split, key: str = "x") -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each dimension of "x", or "context", over the split, in float64, by two passes."""
  mean = sum(rows[key].astype(np.float64).sum(axis=0) for _, rows in chunks(split)) / split.num_examples
  var = sum(((rows[key] - mean) ** 2).sum(axis=0) for _, rows in chunks(split)) / split.num_examples
  return np.asarray(mean), np.sqrt(var)
