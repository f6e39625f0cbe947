"""Mutated data: how many values change, to what, and when they are drawn anew."""

import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, SpecError


def test_so_many_values_become_uniform_levels_and_the_others_stay():
  plain, mutated = (load_dataset("digits", transforms=names) for names in ((), ("mutate:25",)))
  assert mutated.name == "digits+mutate:25" and mutated.spec == plain.spec
  examples = np.arange(mutated.num_examples("train"))
  before, after = plain.split("train").rows(examples)["x"], mutated.split("train").draw(examples, 0)["x"]
  moved = before != after
  np.testing.assert_allclose(moved.mean(), 0.25 * 16 / 17, atol=0.005)  # a draw may be the level that was there
  assert after.dtype == before.dtype and set(np.unique(after[moved])) == set(range(17))
  np.testing.assert_array_equal(mutated.split("train").draw(examples, 0)["y"], plain.split("train")["y"][:])


def test_training_is_mutated_anew_in_every_epoch_and_nothing_else_is():
  dataset, other = (load_dataset("digits", transforms=("mutate:25",), seed=seed) for seed in (0, 1))
  examples = np.arange(50)
  first, second = (dataset.split("train").draw(examples, epoch)["x"] for epoch in (0, 1))
  assert np.any(first != second) and np.any(first != other.split("train").draw(examples, 0)["x"])
  np.testing.assert_array_equal(first, dataset.split("train").draw(examples, 0)["x"])
  for split in ("valid", "test"):
    np.testing.assert_array_equal(dataset.split(split)["x"][:], other.split(split)["x"][:])


def test_all_values_can_be_mutated_and_no_more():
  assert load_dataset("digits", transforms=("mutate:100",)).split("test")["x"][:].mean() == pytest.approx(8.0, abs=0.1)
  with pytest.raises(ConfigError, match="mutate:101 replaces 101 per cent"):
    load_dataset("digits", transforms=("mutate:101",))
  with pytest.raises(SpecError, match="mutate needs discrete data"):
    load_dataset("toy2d:rings", transforms=("mutate:10",))
