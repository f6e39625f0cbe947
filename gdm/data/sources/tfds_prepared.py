"""A prepared set of TensorFlow Datasets: its features by their paths, its splits, and the values of its examples.

A set without a validation split takes it from the end of train: as many examples as the test split has, but at most a
fifth of train (the last 10,000 of MNIST).
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gdm.errors import DataError

MAX_VALID_FRACTION = 0.2
_CHUNK = 4096  # examples that are read at a time


@dataclasses.dataclass(frozen=True)
class Part:
  """`num` examples from `start` on of a split of TFDS."""

  split: str
  start: int
  num: int


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A set that was prepared.

  Attributes:
    name: the set, as it follows "tfds:".
    directory: the folder of its version.
    builder: the builder of TFDS that reads it.
    hint: how to prepare it, in words.
  """

  name: str
  directory: pathlib.Path
  builder: Any
  hint: str

  @property
  def where(self) -> str:
    """The subject of messages."""
    return where_of(self.name, self.directory)

  @property
  def facts(self) -> dict[str, Any]:
    """Plain facts for `Dataset.info`."""
    return {"source": str(self.directory), "version": str(self.builder.info.version)}

  @property
  def files(self) -> tuple[str, list[tuple[str, int, int]]]:
    """The folder, and name, size and time of each of its files: what a cache depends on."""
    return str(self.directory.resolve()), [(file.name, file.stat().st_size, file.stat().st_mtime_ns)
                                           for file in sorted(self.directory.iterdir())]

  @property
  def sizes(self) -> dict[str, int]:
    """Number of examples by split of TFDS."""
    return {name: split.num_examples for name, split in self.builder.info.splits.items()}

  @functools.cached_property
  def features(self) -> dict[str, Any]:
    """Features of TFDS by path, in order of the names: a feature of a nested FeaturesDict is "outer/inner"."""
    import tensorflow_datasets as tfds

    def flat(features: Any, prefix: str) -> Iterator[tuple[str, Any]]:
      for name, feature in sorted(features.items()):  # the order in the file is arbitrary
        if isinstance(feature, tfds.features.FeaturesDict):
          yield from flat(feature, f"{prefix}{name}/")
        else:
          yield prefix + name, feature

    found = self.builder.info.features
    return dict(flat(found, "")) if isinstance(found, tfds.features.FeaturesDict) else {"": found}

  @property
  def shown_features(self) -> str:
    """The features with their kinds, for messages: "audio (Audio), label (ClassLabel)"."""
    return ", ".join(f"{path or 'all'} ({kind_of(feature)})" for path, feature in self.features.items())

  def examples(self, paths: Sequence[str], part: Part) -> Iterator[Mapping[str, Any]]:
    """Yield the values of the features at these paths, and of no others, of each example of a part.

    Raise DataError where a file is damaged, or an example lacks one of them.
    """
    import tensorflow_datasets as tfds

    # Other features are not decoded: that may be slow, or need further libraries. Records hold them by their paths.
    chosen = tfds.features.FeaturesDict({path: self.features[path] for path in paths})
    with blaming(self.where, self.hint):
      source: Any = self.builder.as_data_source(part.split,
                                                deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    for start in range(part.start, part.start + part.num, _CHUNK):
      stop = min(start + _CHUNK, part.start + part.num)
      with damage(self.where):
        found = [chosen.deserialize_example_np(record) for record in source.__getitems__(list(range(start, stop)))]
      for number, example in enumerate(found, start):
        if (lacking := next((path for path, value in example.items() if value is None), None)) is not None:
          raise DataError(f"{self.where}, split {part.split}, example {number} has no value of the feature "
                          f"{lacking!r}: it is optional, or the files are damaged; choose other features.")
        yield example


def kind_of(feature: Any) -> str:
  """Return the kind of a feature, for messages: "Audio", "Text", or the type and shape of a tensor."""
  name = type(feature).__name__
  if name in ("Tensor", "Scalar"):
    dtype = np.dtype(feature.np_dtype)
    sizes = ", ".join("?" if size is None else str(size) for size in feature.shape)
    return ("string" if dtype.kind in "OSU" else str(dtype)) + (f" [{sizes}]" if feature.shape else "")
  return name


def where_of(name: str, directory: pathlib.Path) -> str:
  """Return the subject of messages about a set."""
  return f"tfds:{name} in {directory}"


@contextlib.contextmanager
def blaming(where: str, hint: str) -> Iterator[None]:
  """Raise any failure to open the set, of json, protobuf or TFDS itself, as a DataError."""
  try:
    yield
  except DataError:
    raise
  except Exception as error:
    raise DataError(f"{where} cannot be read: {error}. Prepare it anew: {hint}") from error


@contextlib.contextmanager
def damage(where: str) -> Iterator[None]:
  """Raise any failure to read a record, of the libraries that do, as a DataError."""
  try:
    yield
  except DataError:
    raise
  except Exception as error:
    raise DataError(f"{where} is damaged: {error}") from error


def parts_of(sizes: Mapping[str, int], where: str) -> tuple[dict[str, Part], dict[str, str]]:
  """Return which examples of TFDS our splits are, and the rule by which those came about that TFDS does not have."""
  # sets whose test labels were never published have no test split: everybody reports on their validation split
  test = "test" if "test" in sizes else "validation"
  if "train" not in sizes or test not in sizes:
    raise DataError(f"{where} has the splits {', '.join(sizes)}; it needs train and test (or train and validation).")
  parts = {"train": Part("train", 0, sizes["train"]), "test": Part(test, 0, sizes[test])}
  rule = {} if test == "test" else {"test": "TFDS's validation"}
  if "validation" in sizes and test == "test":
    return {**parts, "valid": Part("validation", 0, sizes["validation"])}, rule
  train, valid = held_out(sizes["train"], sizes[test])
  return {**parts, "train": train, "valid": valid}, {**rule, "valid": f"the last {valid.num} of TFDS's train"}


def held_out(num_train: int, num_test: int) -> tuple[Part, Part]:
  """Return the training and the validation part of TFDS's train: its end is as large as test, or at most a fifth."""
  num_valid = max(1, min(num_test, int(MAX_VALID_FRACTION * num_train)))
  return Part("train", 0, num_train - num_valid), Part("train", num_train - num_valid, num_valid)
