"""Labelled tables and texts as they lie in files, and features of a training part, for learning curves."""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int, Num, Shaped

from gdm.dataspec import DataSpec
from gdm.errors import DataError

MOST_WORDS = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledExamples:
  """Examples with labels.

  Attributes:
    x: numbers [num, dims], or texts [num].
    y: labels, from 0.
    names: of the labels.
  """

  x: Shaped[np.ndarray, "num ..."]
  y: Int[np.ndarray, " num"]
  names: tuple[str, ...]

  @property
  def is_text(self) -> bool:
    return self.x.ndim == 1


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedParts:
  """A training part and a test part as a model takes them.

  Attributes:
    spec: of both.
    train, test: features.
  """

  spec: DataSpec
  train: Num[np.ndarray, "train dims"]
  test: Num[np.ndarray, "test dims"]


def read_labelled(path: Path) -> LabelledExamples:
  """Return the arrays `x` and `label` of an npz, or lines `label<TAB>text` of a text file.

  Raise DataError where the file is missing or holds something else, or where all labels are the same.
  """
  try:
    found = _of_arrays(path) if path.suffix == ".npz" else _of_lines(path)
  except (OSError, ValueError, KeyError) as error:
    raise DataError(f"{path} holds no labelled examples ({error}); it must be an npz with arrays x and label, or lines "
                    "of a label, a tab and a text.") from error
  if len(found.names) < 2:
    raise DataError(f"all {len(found.y)} examples of {path} have the label {''.join(found.names)}; there must be at "
                    "least two.")
  return found


def deduplicated(data: LabelledExamples) -> LabelledExamples:
  """Return each example once, where it occurs first. Raise DataError where equal examples have different labels."""
  _, first, group = np.unique(data.x.reshape(len(data.x), -1), axis=0, return_index=True, return_inverse=True)
  clash = np.flatnonzero(data.y != data.y[first][group.reshape(-1)])
  if len(clash):
    raise DataError(f"example {clash[0]} has another label than an equal one before it.")
  rows = np.sort(first)
  return LabelledExamples(data.x[rows], data.y[rows], data.names)


def presence(data: LabelledExamples, train: Int[np.ndarray, " train"], test: Int[np.ndarray, " test"]) -> PreparedParts:
  """Return which features are above 0; of texts, which of the training part's most frequent words are in them."""
  if not data.is_text:
    parts = [(data.x[rows] > 0).astype(np.uint8) for rows in (train, test)]
  else:
    words = [set(re.findall(r"[a-z0-9']+|[£$!?]", text.lower())) for text in data.x]
    counts = collections.Counter(word for row in train for word in sorted(words[row]))
    kept = {word: place for place, (word, _) in enumerate(counts.most_common(MOST_WORDS))}
    parts = [np.zeros((len(rows), len(kept)), np.uint8) for rows in (train, test)]
    for part, rows in zip(parts, (train, test), strict=True):
      for place, row in enumerate(rows):
        part[place, [kept[word] for word in words[row] if word in kept]] = 1
  return PreparedParts(DataSpec((parts[0].shape[1],), 2, num_classes=len(data.names)), *parts)


def standardized(data: LabelledExamples, train: Int[np.ndarray, " train"],
                 test: Int[np.ndarray, " test"]) -> PreparedParts:
  """Return real features less their mean over the training part, over their deviation; those that do not vary in it
  are left out. Raise DataError for texts, or where none varies."""
  if data.is_text:
    raise DataError("texts have no numbers to standardize; choose --features=presence.")
  mean, deviation = data.x[train].mean(axis=0, dtype=np.float64), data.x[train].std(axis=0, dtype=np.float64)
  varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-12)
  if not varies.any():
    raise DataError(f"no feature varies among the {len(train)} training examples; there must be at least one.")
  parts = [((data.x[rows] - mean) / np.where(varies, deviation, 1.0))[:, varies].astype(np.float32)
           for rows in (train, test)]
  return PreparedParts(DataSpec((int(varies.sum()),), None, num_classes=len(data.names)), *parts)


def logarithms(data: LabelledExamples, train: Int[np.ndarray, " train"],
               test: Int[np.ndarray, " test"]) -> PreparedParts:
  """Return log(0.1 + x), standardized, of features that are never negative (Hastie, Tibshirani and Friedman, The
  Elements of Statistical Learning, section 9.1.2). Raise DataError for others."""
  if data.is_text or data.x.min() < 0:
    raise DataError("logarithms are taken of features that are never negative; choose --features=standardized.")
  return standardized(dataclasses.replace(data, x=np.log(0.1 + data.x.astype(np.float64))), train, test)


FEATURES: Mapping[str, Callable[[LabelledExamples, np.ndarray, np.ndarray], PreparedParts]] = {
    "presence": presence, "standardized": standardized, "logarithms": logarithms}


def _of_arrays(path: Path) -> LabelledExamples:
  with np.load(path, allow_pickle=False) as arrays:
    x, label = arrays["x"], arrays["label"]
  if x.ndim != 2 or label.shape != (len(x),) or x.dtype.kind not in "fiub":
    raise ValueError(f"x has shape {x.shape} and label {label.shape}")
  names, y = np.unique(label, return_inverse=True)
  return LabelledExamples(x, y, tuple(map(str, names)))


def _of_lines(path: Path) -> LabelledExamples:
  pairs = [line.partition("\t") for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
  for number, (_, tab, text) in enumerate(pairs):
    if not tab or not text:
      raise ValueError(f"line {number + 1} has no tab or no text")
  names, y = np.unique([label for label, _, _ in pairs], return_inverse=True)
  return LabelledExamples(np.array([text.strip() for _, _, text in pairs]), y, tuple(map(str, names)))
