"""Arrays from npz files, and every way in which one can be wrong."""

import pathlib

import numpy as np
import pytest

from gdm.data.description import GIVEN, Description
from gdm.data.load import load_dataset, load_like
from gdm.errors import DataError

BITS = np.random.default_rng(0).integers(0, 2, (30, 5)).astype(np.uint8)


@pytest.fixture
def save(tmp_path):
  def write(**arrays) -> str:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return str(path)
  return write


def splits(x: np.ndarray, **more) -> dict[str, np.ndarray]:
  return {"train": x[:20], "valid": x[20:25], "test": x[25:], **more}


def splits_of_labels(y, test=None) -> dict[str, np.ndarray]:
  return {"train_label": y[:20], "valid_label": y[20:25], "test_label": y[25:] if test is None else np.full(5, test)}


def test_binary_data(save):
  path = save(**splits(BITS))
  for dataset in (load_dataset(f"npz:{path}"), load_dataset("npz", path=path)):
    assert dataset.name == "npz:mine" and dataset.spec.levels == 2 and dataset.spec.event == (5,)
    np.testing.assert_array_equal(dataset.split("train")["x"], BITS[:20])
    np.testing.assert_array_equal(dataset.split("test")["x"], BITS[25:])


@pytest.mark.parametrize(("x", "declared", "levels"), [
    (BITS, None, 2),
    (BITS.astype(bool), None, 2),
    (np.zeros_like(BITS), None, 2),
    (BITS.astype(np.int64) * 6, None, 7),
    (BITS.astype(np.int64) * 300, None, 301),
    (BITS * 6, 10, 10),
    (BITS.astype(np.float64), 3, 3),
    (BITS.astype(np.float64), None, None),
    (np.tile(BITS[:, :3], (1, 4)).reshape(30, 2, 2, 3) * 7, None, 256),
    (np.tile(BITS[:, :3], (1, 4)).reshape(30, 2, 2, 3), None, 2),
])
def test_levels_are_declared_or_found(save, x, declared, levels):
  dataset = load_dataset("npz", path=save(**splits(x, **({} if declared is None else {"levels": declared}))))
  assert dataset.spec.levels == levels
  dtype = np.float32 if levels is None else np.uint8 if levels <= 256 else np.int32
  assert dataset.split("valid")["x"].dtype == dtype
  np.testing.assert_array_equal(dataset.split("valid")["x"], x[20:25])


def test_labels(save):
  y = np.arange(30) % 4
  path = save(**splits(BITS), train_label=y[:20], valid_label=y[20:25], test_label=y[25:])
  dataset = load_dataset("npz", path=path)
  assert dataset.spec.num_classes == 4
  np.testing.assert_array_equal(dataset.split("test")["y"], y[25:])


def test_folds_partition_the_rows(save):
  x = np.arange(60, dtype=np.float32).reshape(30, 2)
  path = save(x=x, fold=np.arange(30) % 3 + 1)
  parts = {fold: load_dataset(f"npz:{path}#fold={fold}") for fold in (1, 2, 3)}
  np.testing.assert_array_equal(parts[2].split("test")["x"], x[1::3])
  for fold, dataset in parts.items():
    everything = np.concatenate([dataset.split(name)["x"] for name in dataset.splits])
    np.testing.assert_array_equal(everything[np.argsort(everything[:, 0])], x)
    assert dataset.name == f"npz:mine#fold={fold}" and dataset.num_examples("valid") == 2
  again = load_dataset("npz", path=f"{path}#fold=2", seed=9)
  assert again.fingerprint("train") == parts[2].fingerprint("train")


def test_folds_bring_labels_and_contexts(save):
  rng = np.random.default_rng(0)
  fold, y = np.arange(30) % 3, np.arange(30) % 4
  context = rng.normal(size=(30, 2)).astype(np.float32)
  for name in ("label", "y"):
    path = save(**{"x": BITS, "fold": fold, "context": context, name: y})
    dataset = load_dataset(f"npz:{path}#fold=1")
    assert (dataset.spec.num_classes, dataset.spec.context_dims) == (4, 2)
    np.testing.assert_array_equal(dataset.split("test")["y"], y[fold == 1])
    np.testing.assert_array_equal(dataset.split("test")["context"], context[fold == 1])
    assert sum(dataset.num_examples(split) for split in dataset.splits) == 30


def test_splits_that_are_missing(save):
  """Validation is taken from training; the test split too where there is neither, and is left as it is brought."""
  rng = np.random.default_rng(0)
  x, y, context = rng.integers(0, 9, (60, 5)), np.arange(60) % 4, rng.normal(size=(60, 2)).astype(np.float32)
  arrays = {"train": x, "train_label": y, "train_context": context}
  alone = load_dataset("npz", path=save(**arrays))
  assert list(alone.splits) == ["train", "valid", "test"]
  rows = {tuple(row): (label, tuple(given)) for row, label, given in zip(x, y, context, strict=True)}
  for split in alone.splits.values():
    for row, label, given in zip(split["x"], split["y"], split["context"], strict=True):
      assert rows.pop(tuple(row)) == (label, tuple(given))
  tested = load_dataset("npz", path=save(**arrays, test=x[:5], test_label=y[:5], test_context=context[:5]))
  np.testing.assert_array_equal(tested.split("test")["x"], x[:5])
  assert tested.num_examples("train") + tested.num_examples("valid") == 60
  validated = load_dataset("npz", path=save(train=x, valid=x[:5]))
  assert list(validated.splits) == ["train", "valid"] and validated.num_examples("train") == 60


@pytest.mark.parametrize(("arrays", "message"), [
    ({"train": BITS, "val": BITS[:5], "test": BITS}, "array 'val', which is not read; did you mean 'valid'"),
    ({"x": BITS, "labels": np.arange(30)}, "array 'labels', which is not read; did you mean 'label'"),
    ({"x": BITS, "y": np.array(["a", "b"] * 15)}, r"array 'y' has dtype <U1 and shape \(30,\)"),
    ({"x": BITS.astype(int) - 1}, r"array 'x': the value at index \[\d+, \d+\] is -1"),
    ({}, "no array 'train'"),
    (splits(BITS[:, 0]), r"'train' has shape \(20,\)"),
    ({"train": BITS, "valid": BITS[:, :4], "test": BITS}, r"'valid' have shape \(4,\), those of 'train' \(5,\)"),
    ({"train": BITS, "valid": BITS.astype(float), "test": BITS}, "integers or all floating-point"),
    ({"train": BITS, "valid": BITS[:0], "test": BITS}, "'valid'.*is empty"),
    (splits(BITS.astype("U1")), "dtype <U1"),
    (splits(BITS.astype(np.int32) - 1), r"index \[0, \d\] is -1; levels count from 0"),
    (splits(BITS * 4, levels=4), r"'train': the value at index \[0, 0\] is 4, but levels is 4"),
    (splits(BITS, levels=1), "'levels' is 1; it must be one integer of at least 2"),
    (splits(BITS, levels=[2, 2]), "'levels'"),
    (splits(BITS * 0.5, levels=2), "fractions"),
    (splits(BITS.astype(np.complex64)), "complex64"),
    (splits(np.where(np.arange(150).reshape(30, 5) == 113, np.nan, BITS)), r"split valid.*index \[2, 3\] is nan"),
    (splits(np.where(np.arange(150).reshape(30, 5) == 7, 1e60, BITS)), r"split train.*index \[1, 2\] is 1e\+60"),
    (splits(BITS, train_label=np.zeros(20, int)), "labels of train only"),
    (splits(BITS, **{f"{name}_label": np.zeros(5, int) for name in ("train", "valid", "test")}), "20 integers"),
    ({"x": BITS, "fold": np.arange(30) % 3}, "folds: 0, 1, 2"),
])
def test_bad_arrays_get_a_sentence(save, arrays, message):
  with pytest.raises(DataError, match=message):
    load_dataset("npz", path=save(**arrays))


LABELS = np.arange(30) % 4
LARGE = np.where(np.arange(150).reshape(30, 5) == 149, 9, BITS)


@pytest.mark.parametrize(("arrays", "message"), [
    (splits(LARGE), r"'test': the value at index \[4, 4\] is 9, but levels is 2.*training split holds 0 and 1 alone"),
    (splits(LARGE * 3 + BITS * 4), r"'test'.*is 27.*levels is 8.*largest value of the training split is 7"),
    (splits(BITS, **splits_of_labels(LABELS, test=7)), r"labels of 'test': 7 at index 0.*num_classes=4"),
    (splits(BITS, **splits_of_labels(LABELS), num_classes=3), "of 'train': 3 at index 3.*declares num_classes=3"),
    (splits(BITS, **splits_of_labels(LABELS.astype(np.int64) + 2**32)), r"holds 4294967299; it must be below"),
    (splits(BITS.astype(np.int64) * 1_650_000_000_000), "values up to 1650000000000"),
    (splits(BITS.astype(np.uint64) * np.uint64(2**63 + 7)), "values up to 9223372036854775815"),
    (splits(BITS + 5.4e6 + np.random.default_rng(0).normal(size=BITS.shape)), r"mean 54\d+.*`standardize`"),
    (splits(BITS * 1e-60 + 1e300), "1e\\+300; the largest that float32 holds"),
    (splits(BITS, level=4), "'level', which is not read; did you mean 'levels'"),
    (splits(BITS, train_labels=LABELS), "'train_labels'.*did you mean 'train_label'"),
    (splits(BITS, test_y=LABELS), "'test_y'.*did you mean 'test_label'"),
    (splits(np.zeros((30, 9, 8), np.uint8)), r"\(20, 9, 8\), which looks like images without.*#layout=images"),
    (splits(np.zeros((30, 3, 9, 8), np.uint8)), "channels first.*#layout=images"),
    (splits(np.zeros((30, 9, 8, 4), np.uint8)), "transparency"),
])
def test_nothing_is_guessed_or_wrapped(save, arrays, message):
  with pytest.raises(DataError, match=message):
    load_dataset("npz", path=save(**arrays))


@pytest.mark.parametrize(("shape", "layout", "event"), [
    ((9, 8), "images", (9, 8, 1)), ((3, 9, 8), "images", (9, 8, 3)), ((9, 8, 3), "images", (9, 8, 3)),
    ((9, 8), "arrays", (9, 8)), ((3, 9, 8), "arrays", (3, 9, 8)), ((9, 8, 4), "arrays", (9, 8, 4)),
    ((640, 4), "auto", (640, 4)), ((7, 2, 2), "auto", (7, 2, 2)),
])
def test_layouts(save, shape, layout, event):
  x = np.random.default_rng(0).integers(0, 5, (30, *shape)).astype(np.uint8)
  dataset = load_dataset(f"npz:{save(**splits(x))}#layout={layout}")
  assert dataset.spec.event == event
  right = np.moveaxis(x, 1, -1) if layout == "images" and shape[0] == 3 else x.reshape(30, *event)
  np.testing.assert_array_equal(dataset.split("train")["x"], right[:20])


def test_levels_come_with_their_reason(save):
  whys = {"declared by the file": splits(BITS, levels=7), "the training split holds 0 and 1 alone": splits(BITS),
          "the largest value of the training split is 6": splits(BITS * 6)}
  for why, arrays in whys.items():
    assert load_dataset("npz", path=save(**arrays)).info["levels"] == why


def test_transforms_work_on_the_files_own_values(save):
  """Stamps in milliseconds and coordinates in metres: float32 and int32 hold neither, what is made of them they do."""
  rng = np.random.default_rng(0)
  stamps = 1_650_000_000_000 + rng.integers(0, 3_600_000, (30, 5))
  served = load_dataset("npz", path=save(**splits(stamps)), transforms=("quantize:16",))
  np.testing.assert_array_equal(served.split("test")["x"], stamps[25:] * 16 // (stamps[:20].max() + 1))
  for offset, scale in ((5.4e6, 1.0), (1.7e9, 0.01), (0.0, 1e-50)):
    x = offset + scale * rng.normal(size=(30, 5))
    served = load_dataset("npz", path=save(**splits(x)), transforms=("standardize",)).split("test")["x"]
    np.testing.assert_allclose(served, (x[25:] - x[:20].mean(0)) / x[:20].std(0), atol=1e-6)
    assert served.dtype == np.float32


def test_other_data_have_the_levels_that_a_model_knows(save):
  known = Description.of(load_dataset("npz", path=save(**splits(BITS * 6))))
  found = load_like(known, "npz", path=save(**splits(LARGE.astype(int) // 2)))  # whose training split is of bits
  assert found.spec == known.spec and found.split("test")["x"].max() == 4
  with pytest.raises(DataError, match=r"index .* is 9, but levels is 7"):
    load_like(known, "npz", path=save(**splits(LARGE)))


@pytest.mark.parametrize("transforms", [("standardize",), ("quantize:16",)])
def test_examples_given_raw_are_transformed_as_those_of_the_file(save, transforms):
  x = 5.4e6 + np.random.default_rng(0).normal(size=(30, 5))  # whose fractions float32 does not hold
  dataset = load_dataset("npz", path=save(**splits(x)), transforms=transforms)
  served = Description.of(dataset).serve(x[25:], raw=True).split(GIVEN)["x"]
  np.testing.assert_array_equal(served, dataset.split("test")["x"])


@pytest.mark.parametrize(("arrays", "message"), [
    (splits(BITS), "no arrays x and fold"),
    ({"x": BITS, "fold": np.arange(30) % 3}, "no fold 7; it has 0, 1, 2"),
    ({"x": BITS, "fold": np.arange(29) % 3}, "30 integers"),
    ({"x": BITS, "fold": np.full(30, 7)}, "0 rows outside fold 7"),
])
def test_bad_folds_get_a_sentence(save, arrays, message):
  with pytest.raises(DataError, match=message):
    load_dataset(f"npz:{save(**arrays)}#fold=7")


def test_a_missing_file(tmp_path):
  with pytest.raises(DataError, match="does not exist"):
    load_dataset(f"npz:{tmp_path / 'none.npz'}")
  with pytest.raises(DataError, match="holds no images"):  # a folder is one of images
    load_dataset(f"npz:{tmp_path}")


def test_pickled_objects_are_never_loaded(save, tmp_path):
  witness = tmp_path / "was-here"

  class Trap:
    def __reduce__(self):
      return pathlib.Path.touch, (witness,)

  path = save(**{**splits(BITS), "valid": np.array([Trap()], dtype=object)})
  with pytest.raises(DataError, match="'valid' holds pickled"):
    load_dataset("npz", path=path)
  assert not witness.exists()


@pytest.mark.parametrize("compress", [False, True])
def test_every_truncation_and_any_flipped_byte_of_the_data_is_noticed(tmp_path, compress):
  path = tmp_path / "mine.npz"
  (np.savez_compressed if compress else np.savez)(path, **splits(np.random.default_rng(0).integers(0, 256, (30, 100))))
  whole = path.read_bytes()
  for length in (0, 1, len(whole) // 3, len(whole) - 100, len(whole) - 1):
    path.write_bytes(whole[:length])
    with pytest.raises(DataError, match="truncated"):
      load_dataset(f"npz:{path}")
  middle = len(whole) // 3  # within the numbers of train
  path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:])
  with pytest.raises(DataError, match="damaged"):
    load_dataset(f"npz:{path}")


def test_other_files_are_no_archives(tmp_path):
  path = tmp_path / "mine.npz"
  np.save(path.with_suffix(".npy"), BITS)
  path.with_suffix(".npy").rename(path)
  with pytest.raises(DataError, match="no npz archive"):
    load_dataset(f"npz:{path}")


def test_lengths_are_served_and_padding_is_zero(tmp_path):
  x = np.full((5, 4, 2), 7)
  x[:, :2] = np.arange(4).reshape(2, 2)
  arrays = {"train": x, "valid": x[:2], "test": x[:3]}
  lengths = {f"{name}_length": np.full(len(values), 2) for name, values in arrays.items()}
  np.savez(tmp_path / "padded.npz", **arrays, **lengths)
  dataset = load_dataset(f"npz:{tmp_path / 'padded.npz'}#layout=arrays")
  assert dataset.spec.has_lengths and dataset.spec.levels == 4  # what padding holds is no level
  np.testing.assert_array_equal(dataset.split("test")["length"], [2, 2, 2])
  assert not dataset.split("train")["x"][:, 2:].any()
  flat = load_dataset(f"npz:{tmp_path / 'padded.npz'}#layout=arrays", transforms=("flatten",))
  np.testing.assert_array_equal(flat.split("valid")["length"], [4, 4])
  for wrong, message in [({"train_length": np.full(5, 5)}, "the length of example 0 is 5"),
                         ({"train_length": np.full(3, 2)}, "it must hold 5 integers, one for each example"),
                         ({"train_length": np.full(5, 2.0)}, "has dtype float64")]:
    np.savez(tmp_path / "wrong.npz", **{**arrays, **lengths, **wrong})
    with pytest.raises(DataError, match=message):
      load_dataset(f"npz:{tmp_path / 'wrong.npz'}#layout=arrays")
  np.savez(tmp_path / "part.npz", **arrays, train_length=lengths["train_length"])
  with pytest.raises(DataError, match="has lengths of train only; all splits need them, or none"):
    load_dataset(f"npz:{tmp_path / 'part.npz'}#layout=arrays")
