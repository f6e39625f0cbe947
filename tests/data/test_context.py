"""A real-valued condition of each example: checked, standardized by the training split, and served beside x."""

import numpy as np
import pytest

from gdm.data.dataset import Dataset, as_served, check
from gdm.data.loader import Loader, eval_batches
from gdm.data.transforms import apply_transforms
from gdm.dataspec import DataSpec
from gdm.errors import DataError, SpecError

SIZES = {"train": 12, "valid": 4, "test": 5}


def conditioned(context=lambda rng, num: 5.0 + 1e6 * rng.normal(size=(num, 2))) -> Dataset:
  rng = np.random.default_rng(0)
  splits = {name: {"x": rng.integers(0, 2, (num, 3)).astype(np.uint8), "context": context(rng, num)}
            for name, num in SIZES.items()}
  return Dataset("conditioned", DataSpec((3,), 2, context_dims=2), splits)


def test_a_context_is_standardized_by_the_training_split_and_x_is_left():
  plain = conditioned()
  dataset = as_served(apply_transforms(plain, ("standardize?", "standardize_context?"), seed=0))
  check(dataset)
  train = plain.split("train")["context"]
  np.testing.assert_allclose(dataset.split("test")["context"],
                             (plain.split("test")["context"] - train.mean(0)) / train.std(0), rtol=1e-5)
  np.testing.assert_array_equal(dataset.split("test")["x"], plain.split("test")["x"])
  assert dataset.info["standardize_context"]["mean"] == train.mean(0).tolist()
  assert dataset.name == "conditioned+standardize_context"


def test_batches_hold_the_context_of_their_examples():
  dataset = as_served(conditioned())
  batch = Loader(dataset, 4, seed=0).next_batches()
  assert batch["context"].shape == (1, 4, 2) and batch["context"].dtype == np.float32
  whole = np.concatenate([each["context"] for each in eval_batches(dataset, "test", 5)])
  np.testing.assert_array_equal(whole, dataset.split("test")["context"])


@pytest.mark.parametrize(("context", "message"), [
    (lambda rng, num: np.zeros((num, 3)), r"split train: the context has shape \(12, 3\).*make it \(12, 2\)"),
    (lambda rng, num: np.where(np.arange(2 * num).reshape(num, 2) == 3, np.nan, 0.0), r"context.*\[1, 1\] is nan"),
])
def test_a_context_that_is_not_as_promised(context, message):
  with pytest.raises(DataError, match=message):
    check(conditioned(context))


def test_no_context_where_one_is_promised():
  with pytest.raises(DataError, match=r"split train has no context, but spec.context_dims is 1"):
    check(Dataset("set", DataSpec((2,), None, context_dims=1), {"train": {"x": np.zeros((3, 2), np.float32)}}))
  with pytest.raises(SpecError, match=r"spec.context_dims is -1; it must be at least 1, or 0"):
    DataSpec((2,), None, context_dims=-1)


def test_what_cannot_be_standardized():
  with pytest.raises(DataError, match="dimension 0 of the context of conditioned is constant"):
    apply_transforms(conditioned(lambda rng, num: np.full((num, 2), 0.1)), ("standardize_context",), seed=0)
  two = np.array([0.1, np.nextafter(np.float32(0.1), np.float32(1))], np.float32).astype(np.float64)
  with pytest.raises(DataError, match="dimension 0 of the context of conditioned is constant"):  # but for rounding
    apply_transforms(conditioned(lambda rng, num: np.resize(two, (num, 1)) * np.ones(2)), ("standardize_context",),
                     seed=0)
  with pytest.raises(SpecError, match="standardize_context needs a context, but set has none"):
    apply_transforms(Dataset("set", DataSpec((2,), None), {"train": {"x": np.zeros((3, 2), np.float32)}}),
                     ("standardize_context",), seed=0)


def test_a_context_that_float32_would_blur_is_refused_unless_it_is_standardized():
  plain = conditioned(lambda rng, num: 1.7e9 + rng.normal(size=(num, 2)))
  with pytest.raises(DataError, match=r"context column \[0\] has mean 1[67]\d+.*`standardize_context` transform"):
    as_served(plain)
  served = as_served(apply_transforms(plain, ("standardize_context",), seed=0))
  assert len(np.unique(served.split("train")["context"])) == 24
