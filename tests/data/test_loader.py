"""The stream of training batches and the passes that miss no example."""

import json

import numpy as np
import pytest

from gdm.data.dataset import Dataset
from gdm.data.loader import Loader, Passes, eval_batches
from gdm.data.split import DiskSplit
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError


def counting(num: int = 23, disk: bool = False) -> Dataset:
  """Example i is (i, i), its label i."""
  x = np.repeat(np.arange(num, dtype=np.int32)[:, None], 2, axis=1)
  arrays = {"x": x, "y": np.arange(num, dtype=np.int32)}
  train = DiskSplit("train", num, ("x", "y"), lambda i: {k: v[i] for k, v in arrays.items()}) if disk else arrays
  return Dataset("counting", DataSpec((2,), num, num), {"train": train, "test": arrays})


def line(loader: Loader, steps: int) -> np.ndarray:
  return np.concatenate([loader.next_batches()["y"].ravel() for _ in range(steps)])


def test_each_epoch_is_a_permutation_of_its_own():
  order = line(Loader(counting(), 5, seed=0), 23).reshape(5, 23)
  for epoch in order:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(23))
  assert len({tuple(epoch) for epoch in order}) == 5


def test_shapes():
  loader = Loader(counting(), 5, seed=0, minibatches=3)
  assert loader.next_batches()["x"].shape == (3, 5, 2)
  assert loader.next_batches(4)["x"].shape == (4, 3, 5, 2)
  assert loader.next_batches(1)["y"].shape == (1, 3, 5)


def test_rows_stay_together():
  batch = Loader(counting(), 5, seed=0).next_batches(10)
  np.testing.assert_array_equal(batch["x"][..., 0], batch["y"])


@pytest.mark.parametrize("disk", [False, True])
def test_several_steps_at_once_are_those_steps(disk):
  one, many = (Loader(counting(disk=disk), 5, seed=4, minibatches=2) for _ in range(2))
  singles = np.stack([one.next_batches()["y"] for _ in range(12)])
  np.testing.assert_array_equal(singles, np.concatenate([many.next_batches(5)["y"], many.next_batches(7)["y"]]))


def test_the_order_is_the_seed_s():
  orders = [tuple(line(Loader(counting(), 5, seed=seed), 10)) for seed in (0, 0, 1)]
  assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 4, 5, 37])
def test_a_resumed_stream_goes_on_where_it_stopped(steps, disk):
  unbroken, broken = (Loader(counting(disk=disk), 5, seed=2, minibatches=2) for _ in range(2))
  for loader in (unbroken, broken):
    line(loader, steps) if steps else None
  state = json.loads(json.dumps(broken.get_state()))
  resumed = Loader(counting(disk=disk), 5, seed=2, minibatches=2)
  resumed.next_batches(3)  # what was read before does not matter
  resumed.set_state(state)
  assert resumed.get_state() == state
  np.testing.assert_array_equal(line(resumed, 8), line(unbroken, 8))


def test_disk_and_memory_read_the_same_line():
  disk, memory = (line(Loader(counting(disk=disk), 5, seed=2), 20) for disk in (True, False))
  np.testing.assert_array_equal(disk, memory)


def test_an_error_while_reading_ahead_arrives():
  def broken(examples):
    raise DataError("record 7 is damaged")
  dataset = Dataset("broken", DataSpec((2,), 2), {"train": DiskSplit("train", 20, ("x",), lambda i: {"x": np.zeros((
      len(i), 2), np.uint8)})})
  loader = Loader(dataset, 5, seed=0)
  dataset.split("train")._read = broken
  with pytest.raises(DataError, match="record 7"):
    loader.next_batches()


@pytest.mark.parametrize("disk", [False, True])
def test_a_process_is_served_its_rows_of_the_whole_batch(disk):
  whole = Loader(counting(), 6, seed=1, minibatches=2).next_batches(9)["y"]
  for rows in ([0, 1, 2], [3], [0, 4, 5]):
    part = Loader(counting(disk=disk), 6, seed=1, minibatches=2, rows=np.array(rows)).next_batches(9)["y"]
    np.testing.assert_array_equal(part, whole[:, :, rows])


@pytest.mark.parametrize(("change", "field"), [
    ({"seed": 3}, "seed 3, but this run has 0"), ({"batch_size": 7}, "batch_size 7"),
    ({"num_examples": 7}, "num_examples 7"), ({"fingerprint": "0"}, "fingerprint '0'"),
    ({"index": 3}, "not at the start of a batch"), ({"epoch": -2}, "not at the start"),
])
def test_a_position_of_another_run_is_refused(change, field):
  loader = Loader(counting(), 5, seed=0)
  with pytest.raises(DataError, match=field):
    loader.set_state({**loader.get_state(), **change})
  with pytest.raises(DataError, match="seed None"):
    loader.set_state({})


def test_bad_batch_sizes_get_a_sentence():
  with pytest.raises(DataError, match="batch_size is 24, but the training split of counting has only 23"):
    Loader(counting(), 24, seed=0)
  with pytest.raises(ConfigError, match="batch_size is 0"):
    Loader(counting(), 0, seed=0)
  for rows in ([], [6], [-1, 0], [2, 1], [1, 1]):
    with pytest.raises(ConfigError, match="ascending rows of a batch of 6"):
      Loader(counting(), 6, seed=0, rows=np.array(rows, int))


@pytest.mark.parametrize("batch_size", [1, 5, 23, 30])
def test_evaluation_sees_every_example_once(batch_size):
  batches = list(eval_batches(counting(), "test", batch_size))
  assert all(batch["x"].shape == (batch_size, 2) and batch["mask"].shape == (batch_size,) for batch in batches)
  real = np.concatenate([batch["y"][batch["mask"] == 1] for batch in batches])
  np.testing.assert_array_equal(real, np.arange(23))
  assert all((batch["y"][batch["mask"] == 0] == 22).all() for batch in batches)


def test_processes_share_evaluation():
  whole = list(eval_batches(counting(), "test", 6))
  for rows in ([0, 5], [1, 2, 3, 4]):
    part = list(eval_batches(counting(), "test", 6, rows=np.array(rows)))
    for batch, other in zip(part, whole, strict=True):
      for name in ("x", "y", "mask"):
        np.testing.assert_array_equal(batch[name], other[name][rows])


@pytest.mark.parametrize("disk", [False, True])
def test_passes_can_be_made_again_and_again(disk):
  passes = Passes(counting(disk=disk), 5)
  for _ in range(2):
    batches = list(passes)
    assert len(batches) == len(passes) == 5
    np.testing.assert_array_equal(np.concatenate([batch["y"] for batch in batches]), np.arange(23))
    assert all("mask" not in batch for batch in batches)


def test_small_types_are_kept():
  x = np.zeros((10, 4), np.uint8)
  assert Loader(Dataset("u", DataSpec((4,), 2), {"train": {"x": x}}), 5, seed=0).next_batches()["x"].dtype == np.uint8


@pytest.mark.parametrize("disk", [False, True])
def test_an_order_too_long_to_write_out_is_a_permutation_of_each_epoch(disk, monkeypatch):
  monkeypatch.setattr("gdm.data.loader._LARGE", 10)
  monkeypatch.setattr("gdm.data.loader._BLOCK", 7)
  order = line(Loader(counting(disk=disk), 5, seed=0), 23).reshape(5, 23)
  np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(23), (5, 1)))
  assert len({tuple(epoch) for epoch in order}) == 5
  resumed, loader = (Loader(counting(disk=disk), 5, seed=0) for _ in range(2))
  line(loader, 7)
  resumed.set_state(loader.get_state())
  np.testing.assert_array_equal(line(loader, 9), line(resumed, 9))


def test_passes_over_a_split_on_disk_are_read_ahead_and_equal_those_in_memory():
  disk, memory = counting(disk=True), counting()
  for ours, theirs in ((Passes(disk, 5), Passes(memory, 5)),
                       (eval_batches(disk, "train", 5), eval_batches(memory, "train", 5))):
    for one, other in zip(ours, theirs, strict=True):
      assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
