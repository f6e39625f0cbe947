"""A data set: its spec, its splits, and what is known about it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from gdm.data.split import Op, Split, as_split, chunks
from gdm.data.tokens import Tokenizer
from gdm.dataspec import DataSpec
from gdm.errors import DataError, nearest

SPLITS = ("train", "valid", "test")

_UNKNOWN: Mapping[str, Any] = {"log_prob": None, "tokenizer": None, "sample_rate": None, "units": {}}


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Named splits of examples of one kind.

  Attributes:
    name: what the set is called in results; transforms that change the data are part of it.
    spec: the kind of one example, as served.
    splits: "train", "valid", "test" (text has no "test"), each a mapping to "x" [N, *event], "y" [N] where there are
      labels, "length" [N] for sequences. Plain mappings of arrays become splits in memory.
    info: plain facts for a record: where it came from, by which rule it was split, by what it was standardized.
    log_prob: the true log density in nats, [N, *event] -> [N], where it is known (toy densities).
    tokenizer: turns text into x and back, where x is text.
    sample_rate: samples per second, where x is sound in 8-bit mu-law (see gdm/data/mu_law.py).
    units: of text, by split, how many "tokens", "characters" and "unknown" tokens it has: what likelihood is per.
  """

  name: str
  spec: DataSpec
  splits: Mapping[str, Mapping[str, Any]]
  info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  log_prob: Callable[[Float[np.ndarray, "batch *event"]], Float[np.ndarray, " batch"]] | None = None
  tokenizer: Tokenizer | None = None
  sample_rate: int | None = None
  units: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    object.__setattr__(self, "splits", {name: as_split(split) for name, split in self.splits.items()})

  def split(self, name: str) -> Split:
    """The split of that name. Raises DataError naming the known ones."""
    if name not in self.splits:
      raise DataError(f"{self.name} has no split {name!r}; {nearest(name, self.splits)}")
    return as_split(self.splits[name])

  def num_examples(self, split: str) -> int:
    return self.split(split).num_examples

  def fingerprint(self, split: str) -> str:
    """16 hex digits of the sha256 of names, dtypes, shapes and bytes of all arrays of the split, as served."""
    return self.split(split).digest

  def map(self, op: Op, fresh: bool = False, **changes: Any) -> "Dataset":
    """The set with `op` done to the rows of every split, and these attributes replaced.

    The true density, the tokenizer, the sample rate and the units do not survive a change of the data unless `changes`
    gives the new ones.
    """
    splits = {name: self.split(name).map(op, fresh) for name in self.splits}
    return dataclasses.replace(self, **{"splits": splits, **_UNKNOWN, **changes})


def check(dataset: Dataset) -> None:
  """Raises DataError where a split in memory is empty, or holds what the spec does not promise.

  Splits on disk are checked for emptiness only; they come from TFDS, whose features promise the rest.
  """
  spec = dataset.spec
  for name in dataset.splits:
    split = dataset.split(name)
    where = f"{dataset.name}, split {name}"
    if split.num_examples == 0:
      raise DataError(f"{where}: it is empty; every split needs at least one example.")
    if not split.in_memory:
      continue
    for key in split:
      if len(split[key]) != split.num_examples:
        raise DataError(f"{where}: {key} has {len(split[key])} rows, but x has {split.num_examples}.")
    if split["x"].shape[1:] != spec.event:
      raise DataError(f"{where}: the examples have shape {split['x'].shape[1:]}, but spec.event is {spec.event}.")
    if "length" in split:
      check_lengths(split["length"], spec.event[0], where)
    if spec.levels is None:
      check_finite(split["x"], where)
    else:
      check_range(split["x"], spec.levels, "levels", where)
    if spec.num_classes is not None and "y" in split:
      check_range(split["y"], spec.num_classes, "num_classes", f"{where}, labels")


def check_lengths(length: Integer[np.ndarray, " batch"], context: int, where: str) -> None:
  """Raises DataError naming the index of the first sequence without tokens, or with more than there is room for."""
  if length.min() < 1 or length.max() > context:
    index = int(np.argmax((length < 1) | (length > context)))
    raise DataError(f"{where}: the length of example {index} is {length[index]}; lengths lie between 1 and the "
                    f"context, {context}.")


def check_finite(x: Float[np.ndarray, "batch *event"], where: str) -> None:
  """Raises DataError naming the index of the first NaN or infinity."""
  if not np.isfinite(x).all():
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
    raise DataError(f"{where}: the value at index {_show(index)} is {x[index]}; every value must be finite.")


def check_range(x: np.ndarray, bound: int, what: str, where: str) -> None:
  """Raises DataError naming the index of the first integer outside [0, bound)."""
  if int(x.min()) < 0 or int(x.max()) >= bound:
    index = tuple(int(i) for i in np.argwhere((x < 0) | (x >= bound))[0])
    raise DataError(f"{where}: the value at index {_show(index)} is {x[index]}, but {what} is {bound}; values must lie "
                    f"in [0, {bound}).")


def smallest_dtype(levels: int) -> type[np.integer]:
  """The type that discrete data of so many levels is kept in."""
  return np.uint8 if levels <= 256 else np.int32


def _show(index: tuple[int, ...]) -> str:
  return f"[{', '.join(map(str, index))}]"


def column_moments(split: Split) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each dimension over the split, in float64, by two passes."""
  mean = sum(rows["x"].astype(np.float64).sum(axis=0) for _, rows in chunks(split)) / split.num_examples
  var = sum(((rows["x"] - mean) ** 2).sum(axis=0) for _, rows in chunks(split)) / split.num_examples
  return np.asarray(mean), np.sqrt(var)
