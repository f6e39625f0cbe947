"""Batches come to the devices in several ways: the same ones, in the same order, from the same positions."""

import jax
import numpy as np
import pytest

from gdm import platforms
from gdm.data.dataset import Dataset
from gdm.data.loader import Loader
from gdm.data.split import DiskSplit, MemorySplit
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError
from gdm.mesh import batch_sharding, make_mesh
from gdm.runs.feeding import Feed, choose_way

NUM = 43


def dataset(kind="memory") -> Dataset:
  """Example i is (i, i, i)."""
  rows = {"x": np.repeat(np.arange(NUM, dtype=np.int32)[:, None], 3, axis=1), "y": np.arange(NUM, dtype=np.int32)}
  train = MemorySplit(rows)
  if kind == "fresh":
    train = train.map(lambda rows, examples, epoch: {**rows, "x": (rows["x"] + epoch) % NUM}, fresh=True)
  if kind == "disk":
    train = DiskSplit("train", NUM, ("x", "y"), lambda i: {key: value[i] for key, value in rows.items()})
  return Dataset("counting", DataSpec((3,), NUM, NUM), {"train": train})


def feed(way, kind="memory", **axes) -> Feed:
  data = dataset(kind)
  return Feed(Loader(data, 8, seed=3, minibatches=2), data.split("train"), make_mesh(**axes), way)


def take(source, num, k=3):
  return [jax.device_get(source.next_batches(k)) for _ in range(num)]


def assert_same(found, expected):
  for one, other in zip(found, expected, strict=True):
    assert one.keys() == other.keys()
    for key in one:
      assert one[key].dtype == other[key].dtype
      np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("way, kind", [("device", "memory"), ("ahead", "memory"), ("ahead", "fresh"),
                                       ("ahead", "disk")])
@pytest.mark.parametrize("axes", [{}, {"fsdp": 2, "tensor": 2}])
def test_every_way_gives_the_same_batches_on_the_devices_that_share_them(way, kind, axes):
  with feed(way, kind, **axes) as ours:
    batch = ours.next_batches(3)
    assert batch["x"].sharding.is_equivalent_to(batch_sharding(make_mesh(**axes), leading_axes=2), batch["x"].ndim)
    assert_same([batch, *take(ours, 6)], take(feed("host", kind), 7))
  assert {name: shape.shape for name, shape in ours.batch_shapes(3).items()} == {"x": (3, 2, 8, 3), "y": (3, 2, 8)}


@pytest.mark.parametrize("way", ["host", "device", "ahead"])
def test_a_position_is_that_of_the_batches_taken(way):
  expected = take(feed("host"), 9)
  with feed(way) as ours:
    assert_same(take(ours, 4), expected[:4])
    state = ours.get_state()
  plain = Loader(dataset(), 8, seed=3, minibatches=2)
  plain.set_state(state)
  assert_same([plain.next_batches(3)], expected[4:5])
  with feed(way) as resumed:
    take(resumed, 1)
    resumed.set_state(state)
    assert_same(take(resumed, 5), expected[4:])
  assert_same(take(ours, 2), expected[4:6])  # after its context too


def test_the_way_is_chosen_by_machine_and_data():
  ways = {}
  for kind in ("memory", "fresh", "disk"):
    split = dataset(kind).split("train")
    with platforms.tracing_for("tpu"):
      ways[kind] = choose_way("auto", split)
    assert choose_way("auto", split) == "host"  # a CPU
  assert ways == {"memory": "device", "fresh": "ahead", "disk": "ahead"}


def test_data_that_cannot_lie_on_a_device_is_told(monkeypatch):
  for kind, words in (("fresh", "changes from epoch to epoch"), ("disk", "is on disk")):
    with pytest.raises(ConfigError, match=f"data.feed is 'device', but the training split {words}; choose 'ahead'"):
      feed("device", kind)
  monkeypatch.setattr("gdm.runs.feeding.MOST_ON_DEVICE", 100)
  with pytest.raises(ConfigError, match="GiB, and 0 fit"):
    feed("device")


def test_an_error_while_reading_ahead_comes_with_its_batch():
  data = dataset()

  class Failing(Loader):
    calls = 0

    def next_batches(self, k=None):
      self.calls += 1
      if self.calls > 2:
        raise DataError("the disk is gone")
      return super().next_batches(k)

  with Feed(Failing(data, 8, seed=3, minibatches=2), data.split("train"), make_mesh(), "ahead") as ours:
    take(ours, 2)
    for _ in range(2):
      with pytest.raises(DataError, match="the disk is gone"):
        ours.next_batches(3)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["device", "ahead"])
def test_a_run_ends_the_same_however_it_is_fed(way, commands, unbroken, tmp_path):
  from helpers.commands import TINY
  workdir = tmp_path / "run"
  commands.good("train", f"{TINY}:digits", f"--workdir={workdir}", f"--config.data.feed={way}")
  ours, theirs = ((path / "metrics.jsonl").read_text().splitlines() for path in (workdir, unbroken("digits")))
  assert ours == theirs
