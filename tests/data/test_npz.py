"""Arrays from npz files, and every way in which one can be wrong."""

import pathlib

import numpy as np
import pytest

from gdm.data.load import load_dataset
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


@pytest.mark.parametrize(("arrays", "message"), [
    ({"train": BITS, "test": BITS}, "no array 'valid'"),
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
    (splits(np.where(np.arange(150).reshape(30, 5) == 7, 1e60, BITS)), r"split train.*index \[1, 2\] is inf"),
    (splits(BITS, train_label=np.zeros(20, int)), "labels of train only"),
    (splits(BITS, **{f"{name}_label": np.zeros(5, int) for name in ("train", "valid", "test")}), "20 integers"),
    ({"x": BITS, "fold": np.arange(30) % 3}, "folds: 0, 1, 2"),
])
def test_bad_arrays_get_a_sentence(save, arrays, message):
  with pytest.raises(DataError, match=message):
    load_dataset("npz", path=save(**arrays))


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
  with pytest.raises(DataError, match="does not exist"):
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
