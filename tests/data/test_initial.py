"""Initialization sees the whole training split, or a random sample of it."""

import numpy as np

from gdm.data.dataset import Dataset
from gdm.data.initial import initial_batch, sample_examples
from gdm.dataspec import DataSpec


def table(x) -> Dataset:
  return Dataset("table", DataSpec(event=x.shape[1:], levels=None), {"train": {"x": x.astype(np.float32)}})


def test_the_sample_does_not_follow_the_files_order():
  late = np.where(np.arange(10_000) < 9_000, 0.1, np.random.default_rng(0).normal(size=10_000))
  x = initial_batch(table(late[:, None]), 2000)["x"]
  assert len(x) == 2000 and abs(x.std() - late.std()) < 0.05
  examples = sample_examples(10_000, 2000)
  assert len(set(examples.tolist())) == 2000 and (np.diff(examples) > 0).all()
  assert abs(np.mean(examples) - 5000) < 200


def test_a_small_split_is_seen_whole():
  x = np.random.default_rng(0).normal(size=(50, 3))
  np.testing.assert_array_equal(initial_batch(table(x), 100)["x"], x.astype(np.float32))


def test_a_rare_value_is_not_taken_for_impossible():
  x = np.zeros((20_000, 3))
  x[:, 0] = np.arange(20_000)
  examples = sample_examples(20_000, 500)
  rare = next(i for i in range(20_000) if i not in set(examples.tolist()))
  x[rare, 1] = 5.0
  seen = initial_batch(table(x), 500)["x"]
  assert len(seen) == 501 and (seen[:, 1] == 5.0).sum() == 1 and not seen[:, 2].any()
