"""Data sets, their splits, fingerprints and checks."""

import dataclasses

import numpy as np
import pytest

from gdm.data.dataset import Dataset, check, column_moments
from gdm.data.loader import Loader, Passes, eval_batches
from gdm.data.split import DiskSplit, MemorySplit
from gdm.dataspec import DataSpec
from gdm.errors import DataError


def toy(x=None, levels=2, **spec) -> Dataset:
  x = np.random.default_rng(0).integers(0, 2, (20, 3)).astype(np.uint8) if x is None else x
  return Dataset("toy", DataSpec(event=x.shape[1:], levels=levels, **spec),
                 {"train": {"x": x}, "valid": {"x": x[:2]}, "test": {"x": x[:3]}})


def on_disk(x: np.ndarray) -> DiskSplit:
  return DiskSplit("toy split", len(x), ("x",), lambda examples: {"x": x[examples]})


def test_an_unknown_split_is_an_error_that_names_the_known():
  with pytest.raises(DataError, match=r"'tset'.*'test'"):
    toy().split("tset")


def test_the_fingerprint_is_of_the_content():
  x = np.arange(12, dtype=np.uint8).reshape(4, 3) % 2
  same, other = x.copy(), x.copy()
  other[3, 2] ^= 1
  print_of = lambda x: toy(x).fingerprint("train")  # noqa: E731
  assert len(print_of(x)) == 16 and int(print_of(x), 16) >= 0
  assert print_of(x) == print_of(same)
  assert len({print_of(x), print_of(other), print_of(x.astype(np.int32)), print_of(x.reshape(4, 3, 1))}) == 4


def test_memory_and_disk_have_one_fingerprint():
  x = np.random.default_rng(0).integers(0, 2, (3, 3_000_000)).astype(np.uint8)  # more than one chunk
  assert MemorySplit({"x": x}).digest == on_disk(x).digest


def test_a_fingerprint_sees_labels():
  x = np.zeros((4, 2), np.uint8)
  labels = ({}, {"y": np.arange(4)}, {"y": np.arange(4) + 1})
  splits = [MemorySplit({"x": x, **y}) for y in labels]
  assert len({split.digest for split in splits}) == 3


def test_arrays_cannot_be_written_through():
  with pytest.raises(ValueError, match="read-only"):
    toy().split("train")["x"][0] = 0


def test_a_column_on_disk_reads_what_it_is_asked_for():
  x = np.arange(40).reshape(20, 2)
  split = on_disk(x)
  column = split["x"]
  np.testing.assert_array_equal(column[3:7], x[3:7])
  np.testing.assert_array_equal(column[np.array([4, 1])], x[[4, 1]])
  np.testing.assert_array_equal(column[-1], x[-1])
  assert len(column) == 20 and list(split) == ["x"]
  with pytest.raises(DataError, match="left on disk"):
    np.asarray(column)


@pytest.mark.parametrize(("x", "levels", "message"), [
    (np.zeros((0, 3), np.uint8), 2, "empty"),
    (np.array([[0, 1], [2, 1]], np.uint8), 2, r"index \[1, 0\] is 2, but levels is 2"),
    (np.array([[0, 1], [1, -1]], np.int32), 2, r"index \[1, 1\] is -1"),
    (np.array([[0.0, 1.0], [1.0, np.nan]], np.float32), None, r"index \[1, 1\] is nan"),
    (np.array([[0.0, np.inf], [1.0, 0.0]], np.float32), None, r"index \[0, 1\] is inf"),
])
def test_what_the_spec_does_not_promise_is_an_error(x, levels, message):
  with pytest.raises(DataError, match=message):
    check(toy(x, levels))


def test_shapes_and_labels_must_fit():
  dataset = toy()
  with pytest.raises(DataError, match=r"spec\.event"):
    check(dataclasses.replace(dataset, spec=DataSpec(event=(4,), levels=2)))
  x = dataset.split("train")["x"]
  with pytest.raises(DataError, match="y has 3 rows"):
    check(dataclasses.replace(dataset, splits={"train": {"x": x, "y": np.zeros(3, np.int32)}}))
  with pytest.raises(DataError, match="num_classes is 2"):
    check(Dataset("toy", DataSpec(event=(3,), levels=2, num_classes=2), {"train": {"x": x, "y": np.full(20, 2)}}))
  check(dataset)


def test_moments_are_those_of_numpy():
  x = np.random.default_rng(0).normal(3, 2, (500, 4)).astype(np.float32)
  mean, std = column_moments(MemorySplit({"x": x}))
  np.testing.assert_allclose(mean, x.astype(np.float64).mean(0))
  np.testing.assert_allclose(std, x.astype(np.float64).std(0))


def bad_sets():
  """Data sets whose training split has an example, number 13, that the spec does not promise."""
  x = np.zeros((20, 3), np.uint8)
  x[13, 1] = 2
  spec, good = DataSpec((3,), 2), np.zeros((20, 3), np.uint8)

  def to_twos(rows, examples, epoch):
    return {**rows, "x": np.where(examples[:, None] == 13, 2, rows["x"])}

  return {"memory": Dataset("set", spec, {"train": {"x": x}}), "disk": Dataset("set", spec, {"train": on_disk(x)}),
          "transformed": Dataset("set", spec, {"train": on_disk(good).map(to_twos)}),
          "fresh": Dataset("set", spec, {"train": MemorySplit({"x": good}, {"x": good}, (to_twos,))})}


@pytest.mark.parametrize("kind", bad_sets())
def test_what_is_read_is_held_to_the_spec(kind):
  dataset = bad_sets()[kind]
  with pytest.raises(DataError, match=r"set, split train: the value at index \[13, [01]\] is 2, but levels is 2"):
    Loader(dataset, 10, seed=0).next_batches(2)
  if kind != "fresh":
    for passes in (Passes(dataset, 7), eval_batches(dataset, "train", 7)):
      with pytest.raises(DataError, match="is 2, but levels is 2"):
        list(passes)


def test_a_set_with_lengths_says_so_in_its_spec():
  rows = {"x": np.array([[0, 1, 9], [1, 9, 9]], np.uint8), "length": np.array([2, 1])}
  dataset = Dataset("lines", DataSpec((3,), 2), {"train": rows})
  assert dataset.spec.has_lengths
  check(dataset)  # whatever padding holds
  with pytest.raises(DataError, match="split valid has no lengths, but the spec promises them"):
    check(Dataset("lines", DataSpec((3,), 2), {"train": rows, "valid": {"x": rows["x"] % 2}}))
