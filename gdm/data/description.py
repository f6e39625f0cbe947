"""What remains of a data set without its files: all that a trained model needs to be used on new examples.

A checkpoint holds the description of the data that it was trained with, so that a run can be sampled from, and can
score new examples, where the training data are not.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from gdm.data.dataset import Dataset, as_served, check
from gdm.data.split import MemorySplit, chunks
from gdm.data.tokens import Tokenizer
from gdm.data.transforms import apply_transforms
from gdm.dataspec import DataSpec
from gdm.errors import DataError

GIVEN = "given"  # name of the split that `Description.serve` makes


@dataclasses.dataclass(frozen=True)
class Description:
  """A data set as a trained model remembers it.

  Attributes:
    name: what the set is called in results.
    spec: the kind of one example, as served.
    raw_spec: the kind of one example before transforms.
    transforms: their names, in order.
    info: plain facts, among them what transforms took from the training split: means, deviations, ends of bins.
    sizes: examples of each split.
    identity: fingerprint of each split, and of the vocabulary; see `Dataset.identity`.
    arrays: for each entry of a batch, such as "x", the shape of one example and its dtype.
    class_counts: how often the training split has each label; () without labels, or where it is on disk.
    tokenizer: turns text into x and back, where x is text.
    sample_rate: samples per second, where x is sound.
    prefix_tokenizer: turns text into the prefix and back, where the prefix is text.
  """

  name: str
  spec: DataSpec
  raw_spec: DataSpec
  transforms: tuple[str, ...]
  info: Mapping[str, Any]
  sizes: Mapping[str, int]
  identity: Mapping[str, str]
  arrays: Mapping[str, tuple[tuple[int, ...], str]]
  class_counts: tuple[int, ...] = ()
  tokenizer: Tokenizer | None = None
  sample_rate: int | None = None
  prefix_tokenizer: Tokenizer | None = None

  @classmethod
  def of(cls, dataset: Dataset) -> "Description":
    """Describe a data set."""
    train = dataset.split("train")
    first = train.rows(slice(0, 1))
    return cls(dataset.name, dataset.spec, dataset.raw_spec or dataset.spec, dataset.transforms, dict(dataset.info),
               {name: dataset.num_examples(name) for name in dataset.splits}, dataset.identity,
               {name: (array.shape[1:], array.dtype.str) for name, array in first.items()},
               _class_counts(dataset), dataset.tokenizer, dataset.sample_rate, dataset.prefix_tokenizer)

  def shapes(self, num: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a batch of `num` examples."""
    return {name: jax.ShapeDtypeStruct((num, *shape), np.dtype(dtype)) for name, (shape, dtype) in self.arrays.items()}

  def serve(self, x: Shaped[np.ndarray, "num *event"], raw: bool = False,
            **more: np.ndarray) -> Dataset:
    """Return examples as a data set of one split, `GIVEN`, held to what the model was trained with.

    Args:
      x: the examples, [num, *event].
      raw: whether they are as in the file, and the transforms of the training data are to be done; else they are as
        served.
      more: further entries of a batch, as y [num] and length [num].

    Raise DataError for examples of another shape, or with values outside the spec.
    """
    spec = self.raw_spec if raw else self.spec
    # What was standardized or cut into bins goes there in the file's own digits, as in training.
    is_exact = raw and bool({"standardize", "quantize"} & self.info.keys())
    real = np.float64 if is_exact else np.float32
    rows = {"x": _as_event(x, spec, self.name, real), **{name: np.asarray(value) for name, value in more.items()}}
    if missing := [name for name, value in rows.items() if len(value) != len(x)]:
      raise DataError(f"{missing[0]} has {len(rows[missing[0]])} rows, but x has {len(x)}.")
    if "context" not in rows:  # what needs one says so
      spec = dataclasses.replace(spec, context_dims=0)
    if "prefix" not in rows:
      spec = dataclasses.replace(spec, prefix_steps=0, prefix_levels=0)
    dataset = Dataset(self.name, spec, {GIVEN: MemorySplit(rows)})
    return self.transformed(dataset, 0) if raw else dataset

  def transformed(self, dataset: Dataset, seed: int) -> Dataset:
    """Return another set as the model was trained to see it: with means, deviations and bins of the training data.

    Args:
      dataset: a set as it comes from its source.
      seed: of what training sees anew in every epoch.

    Raise DataError where its examples are of another kind, or hold values that the training data could not.
    """
    ours, theirs = self.raw_spec, dataset.spec
    if theirs.event != ours.event or theirs.is_discrete != ours.is_discrete or theirs.has_lengths != ours.has_lengths:
      raise DataError(f"examples of {dataset.name} are {_words(theirs)}, but the run was trained on {self.name}, whose "
                      f"examples are {_words(ours)}; bring data of that kind.")
    width = {"context_dims": theirs.context_dims}
    if not theirs.prefix_steps:  # what needs one says so
      width |= {"prefix_steps": 0, "prefix_levels": 0}
    dataset = dataclasses.replace(dataset, spec=dataclasses.replace(ours, **width))
    check(dataset)
    dataset = as_served(apply_transforms(dataset, self.transforms, seed, self.info))
    return dataclasses.replace(dataset, spec=dataclasses.replace(self.spec, **width))

  def to_json(self) -> dict[str, Any]:
    """Return the description as numbers, strings, lists and dicts."""
    fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return {**fields, "spec": dataclasses.asdict(self.spec), "raw_spec": dataclasses.asdict(self.raw_spec),
            "tokenizer": self.tokenizer and self.tokenizer.to_json(),
            "prefix_tokenizer": self.prefix_tokenizer and self.prefix_tokenizer.to_json()}

  @classmethod
  def from_json(cls, record: Mapping[str, Any]) -> "Description":
    """Return the description that `to_json` wrote."""
    tokenizer, of_prefix = record["tokenizer"], record.get("prefix_tokenizer")
    return cls(**{**record, "spec": _spec(record["spec"]), "raw_spec": _spec(record["raw_spec"]),
                  "transforms": tuple(record["transforms"]), "class_counts": tuple(record["class_counts"]),
                  "arrays": {name: (tuple(shape), dtype) for name, (shape, dtype) in record["arrays"].items()},
                  "tokenizer": tokenizer and Tokenizer.from_json(tokenizer),
                  "prefix_tokenizer": of_prefix and Tokenizer.from_json(of_prefix)})


def _words(spec: DataSpec) -> str:
  kind = "integers" if spec.is_discrete else "real numbers"
  return f"{kind} of shape {spec.event}" + (" with lengths" if spec.has_lengths else "")


def _spec(record: Mapping[str, Any]) -> DataSpec:
  return DataSpec(**{**record, "event": tuple(record["event"]), "blocks": tuple(map(tuple, record["blocks"]))})


def _class_counts(dataset: Dataset) -> tuple[int, ...]:
  train, num = dataset.split("train"), dataset.spec.num_classes
  if num is None or "y" not in train or not train.in_memory:  # from disk it would take a pass over all examples
    return ()
  counts = sum(np.bincount(np.asarray(rows["y"]).ravel(), minlength=num) for _, rows in chunks(train))
  return tuple(np.asarray(counts).tolist())


def _as_event(x: np.ndarray, spec: DataSpec, name: str, real: type[np.floating]) -> np.ndarray:
  """Return x in the type that data of a spec have, real numbers as `real` or less. Raise DataError where it has another
  shape, or would change."""
  if x.ndim != 1 + len(spec.event) or x.shape[1:] != spec.event:
    raise DataError(f"x has shape {x.shape}; examples of {name} are [num, {', '.join(map(str, spec.event))}].")
  if not spec.is_discrete:
    return x.astype(real) if x.dtype.kind != "f" or x.dtype.itemsize > np.dtype(real).itemsize else x
  if x.dtype.kind == "f" and (x != np.rint(x)).any():
    raise DataError(f"x holds fractions, but examples of {name} are integers in [0, {spec.levels}).")
  return x.astype(np.int64) if x.dtype.kind == "f" else x
