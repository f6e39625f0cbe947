"""Transforms change the data and its spec together."""

import numpy as np
import pytest
import scipy.stats

from gdm.data import images
from gdm.data.dataset import Dataset, check
from gdm.data.load import load_dataset
from gdm.data.loader import Loader
from gdm.data.split import DiskSplit
from gdm.data.transforms import TRANSFORMS, apply_transforms
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, SpecError

SIZES = {"train": 40, "valid": 10, "test": 12}


def grey(levels: int = 17, event: tuple[int, ...] = (8, 6, 1), disk: bool = False) -> Dataset:
  rng = np.random.default_rng(0)
  arrays = {name: rng.integers(0, levels, (num, *event)).astype(np.uint8) for name, num in SIZES.items()}
  splits = {name: DiskSplit(name, len(x), ("x",), lambda examples, x=x: {"x": x[examples]}) if disk else {"x": x}
            for name, x in arrays.items()}
  return Dataset("grey", DataSpec(event=event, levels=levels), splits)


def real(event: tuple[int, ...] = (3,)) -> Dataset:
  rng = np.random.default_rng(0)
  return Dataset("real", DataSpec(event=event, levels=None),
                 {name: {"x": rng.normal(3, 2, (num, *event)).astype(np.float32)} for name, num in SIZES.items()})


def x_of(dataset: Dataset, split: str = "train") -> np.ndarray:
  return dataset.split(split)["x"]


def test_binarize_by_half_of_the_levels():
  plain = grey()
  dataset = apply_transforms(plain, ("binarize",), seed=0)
  assert dataset.spec.levels == 2 and dataset.name == "grey+binarize"
  np.testing.assert_array_equal(x_of(dataset), x_of(plain) >= 8)
  check(dataset)


def test_fixed_binarization_is_the_same_for_everyone():
  one, two = (apply_transforms(grey(), ("binarize_fixed",), seed=seed) for seed in (0, 1))
  assert all(one.fingerprint(name) == two.fingerprint(name) for name in SIZES)
  train = one.split("train")
  np.testing.assert_array_equal(train.draw(np.arange(5), 7)["x"], train["x"][:5])
  assert (x_of(one)[:10] != x_of(one, "valid")).any()


def test_dynamic_binarization_is_new_in_every_epoch_of_training_alone():
  dataset, other = (apply_transforms(grey(), ("binarize_dynamic",), seed=seed) for seed in (0, 1))
  train, test = dataset.split("train"), dataset.split("test")
  epochs = [train.draw(np.arange(40), epoch)["x"].tobytes() for epoch in range(3)]
  assert len(set(epochs)) == 3 and epochs[0] == train["x"].tobytes()
  np.testing.assert_array_equal(test.draw(np.arange(12), 5)["x"], test["x"])
  assert dataset.fingerprint("test") == other.fingerprint("test")
  assert dataset.fingerprint("train") != other.fingerprint("train")
  # another data set than the fixed one, and never in a table with it
  assert dataset.fingerprint("test") != apply_transforms(grey(), ("binarize_fixed",), seed=0).fingerprint("test")


@pytest.mark.parametrize("name", ["binarize_fixed", "binarize_dynamic"])
def test_draws_have_the_probability_of_the_grey_value(name):
  levels = 5
  x = np.repeat(np.arange(levels, dtype=np.uint8), 4000).reshape(-1, 100)
  dataset = apply_transforms(Dataset("g", DataSpec((100,), levels), {"train": {"x": x}}), (name,), seed=3)
  for epoch in (0, 4):
    drawn = dataset.split("train").draw(np.arange(len(x)), epoch)["x"]
    ones = [int(drawn[x == level].sum()) for level in range(levels)]
    assert ones[0] == 0 and ones[-1] == 4000
    for level in range(1, levels - 1):
      assert scipy.stats.binomtest(ones[level], 4000, level / (levels - 1)).pvalue > 1e-4


def test_what_follows_a_dynamic_transform_is_dynamic_too():
  dataset = apply_transforms(grey(), ("binarize_dynamic", "crop:4", "flatten"), seed=0)
  whole = apply_transforms(grey(), ("binarize_dynamic",), seed=0)
  some = np.array([3, 30, 11])
  drawn = dataset.split("train").draw(some, 2)["x"]
  assert dataset.spec.event == (16,) and drawn.shape == (3, 16)
  np.testing.assert_array_equal(drawn, whole.split("train").draw(some, 2)["x"][:, 2:6, 1:5].reshape(3, 16))
  check(dataset)


@pytest.mark.parametrize(("old", "new"), [(256, 8), (256, 32), (17, 5), (17, 17), (2, 2)])
def test_quantizing_joins_neighbours_and_uses_every_level(old, new):
  x = np.arange(old, dtype=np.uint8).reshape(old, 1)
  dataset = apply_transforms(Dataset("g", DataSpec((1,), old), {"train": {"x": x}}), (f"quantize:{new}",), seed=0)
  out = x_of(dataset)[:, 0].astype(int)
  assert dataset.spec.levels == new
  assert set(np.diff(out)) <= {0, 1} and out[0] == 0 and out[-1] == new - 1
  assert np.ptp(np.bincount(out)) <= 1


def test_quantizing_continuous_data_by_the_range_of_the_training_split():
  dataset = apply_transforms(real(), ("quantize:10",), seed=0)
  x, plain = x_of(dataset), x_of(real())
  low, high = plain.min(0), plain.max(0)
  np.testing.assert_array_equal(x, np.minimum((plain - low) / (high - low) * 10, 9).astype(np.uint8))
  assert x.min() == 0 and x.max() == 9
  check(dataset)  # what lies outside in other splits falls into the outer bins


def test_standardize():
  dataset = apply_transforms(real(), ("standardize",), seed=0)
  np.testing.assert_allclose(x_of(dataset).mean(0), 0, atol=1e-6)
  np.testing.assert_allclose(x_of(dataset).std(0), 1, atol=1e-6)
  mean, std = x_of(real()).mean(0), x_of(real()).std(0)
  np.testing.assert_allclose(x_of(dataset, "test"), (x_of(real(), "test") - mean) / std, atol=1e-5)


def test_a_constant_dimension_cannot_be_standardized():
  x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
  x[:, 1] = 0.1
  with pytest.raises(DataError, match="dimension 1 of r is constant"):
    apply_transforms(Dataset("r", DataSpec((3,), None), {"train": {"x": x}}), ("standardize",), seed=0)


def test_resizing_agrees_with_pillow():
  from PIL import Image

  x = np.random.default_rng(0).integers(0, 256, (2, 28, 20, 3)).astype(np.uint8)
  for size in (14, 32, 28):
    theirs = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)) for image in x]
    assert np.abs(images.resize(x, size) - np.stack(theirs)).max() <= 1  # pillow rounds between its two passes


def test_resizing_keeps_constants_and_the_spec():
  dataset = apply_transforms(grey(), ("resize:4",), seed=0)
  assert dataset.spec == DataSpec((4, 4, 1), 17) and x_of(dataset).dtype == np.uint8
  check(dataset)
  np.testing.assert_allclose(images.resize(np.full((1, 9, 7, 3), 5), 4), 5, rtol=1e-6)


def test_crop_and_flatten():
  x = np.arange(2 * 5 * 7).reshape(2, 5, 7, 1)
  np.testing.assert_array_equal(images.center_crop(x, 3), x[:, 1:4, 2:5])
  dataset = apply_transforms(grey(), ("flatten",), seed=0)
  assert dataset.spec.event == (48,)
  np.testing.assert_array_equal(x_of(dataset), x_of(grey()).reshape(-1, 48))


@pytest.mark.parametrize("names", [("binarize",), ("binarize_fixed",), ("binarize_dynamic", "flatten"),
                                   ("crop:5", "resize:3", "quantize:4"), ("resize:9", "binarize", "blocks")])
def test_disk_and_memory_agree(names):
  disk, memory = (apply_transforms(grey(disk=disk), names, seed=2) for disk in (True, False))
  assert disk.spec == memory.spec and disk.name == memory.name
  for name in SIZES:
    assert disk.fingerprint(name) == memory.fingerprint(name)
  loaders = [Loader(dataset, 16, seed=2) for dataset in (disk, memory)]
  for _ in range(6):
    np.testing.assert_array_equal(loaders[0].next_batches()["x"], loaders[1].next_batches()["x"])


@pytest.mark.parametrize(("names", "error", "message"), [
    (("binarise",), ConfigError, "no transform 'binarise'; did you mean 'binarize'"),
    (("whiten",), ConfigError, "known: binarize, "),
    ("binarize", ConfigError, "must be a tuple"),
    (("quantize",), ConfigError, "'quantize' must be quantize:<levels>"),
    (("quantize:x",), ConfigError, "must be quantize:<levels>"),
    (("quantize:1",), ConfigError, "quantize:1 of data with 17 levels; it can make 2 to 17"),
    (("quantize:18",), ConfigError, "2 to 17"),
    (("flatten:3",), ConfigError, "must be flatten alone"),
    (("crop:7",), ConfigError, r"crop:7 is larger than the images of grey, \(8, 6, 1\)"),
    (("flatten", "crop:3"), SpecError, r"crop:3 needs images .* shape \(48,\)"),
    (("standardize",), SpecError, "needs continuous data"),
])
def test_what_does_not_fit_gets_a_sentence(names, error, message):
  with pytest.raises(error, match=message):
    apply_transforms(grey(), names, seed=0)


@pytest.mark.parametrize("name", ["binarize", "binarize_fixed", "binarize_dynamic"])
def test_continuous_data_cannot_be_binarized(name):
  with pytest.raises(SpecError, match="needs discrete data"):
    apply_transforms(real(), (name,), seed=0)


def test_every_transform_is_named_in_the_page_that_explains_them():
  import gdm.data.transforms as page

  lines = [line.strip() for line in (page.__doc__ or "").splitlines()]
  for name, transform in TRANSFORMS.items():
    assert any(line.startswith(f"{name}{':<' if transform.argument else ' '}") for line in lines)


def test_stacked_images_are_three_of_the_split_and_labels_the_number_that_they_make():
  plain, stacked = load_dataset("digits"), load_dataset("digits", transforms=("stack",))
  assert stacked.spec.event == (8, 8, 3) and stacked.spec.num_classes == 1000 and stacked.name == "digits+stack"
  for split in ("train", "test"):
    before, after = (dataset.split(split).rows(slice(0, 50)) for dataset in (plain, stacked))
    np.testing.assert_array_equal(after["x"][..., :1], before["x"])
    np.testing.assert_array_equal(after["y"] // 100, before["y"])
    everything = plain.split(split).rows(slice(0, plain.num_examples(split)))
    for channel, digits in ((1, after["y"] // 10 % 10), (2, after["y"] % 10)):
      for image, digit in zip(after["x"][..., channel], digits, strict=True):
        same = (everything["x"][..., 0] == image).all(axis=(1, 2))
        assert digit in everything["y"][same]
  with pytest.raises(SpecError, match="images of one channel"):
    load_dataset("digits", transforms=("stack", "stack"))
