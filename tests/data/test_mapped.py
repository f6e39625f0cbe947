"""Sets larger than memory serve what the same sets in memory serve."""

import numpy as np
import pytest
from PIL import Image

from gdm.data.load import load_dataset
from gdm.data.loader import Loader
from gdm.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def assert_same(ours, theirs):
  assert ours.spec == theirs.spec and list(ours.splits) == list(theirs.splits)
  for name in theirs.splits:
    assert theirs.split(name).in_memory and not ours.split(name).in_memory
    assert ours.fingerprint(name) == theirs.fingerprint(name)
  batches = [Loader(dataset, 8, seed=1).next_batches(5) for dataset in (ours, theirs)]
  for key in batches[1]:
    np.testing.assert_array_equal(batches[0][key], batches[1][key])
    assert batches[0][key].dtype == batches[1][key].dtype


def both(monkeypatch, name, limit="gdm.data.sources.mapped.MAPPED_FROM"):
  theirs = load_dataset(name)
  monkeypatch.setattr(limit, 1)
  return load_dataset(name), theirs


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
  monkeypatch.setenv("GDM_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("dtype, high", [(np.uint8, 2), (np.int64, 300), (np.uint8, 17), (np.float32, None)])
def test_an_array_without_splits(tmp_path, monkeypatch, dtype, high):
  x = RNG.normal(size=(90, 5)).astype(dtype) if high is None else RNG.integers(0, high, (90, 5)).astype(dtype)
  np.save(tmp_path / "x.npy", x)
  assert_same(*both(monkeypatch, f"npy:{tmp_path / 'x.npy'}#valid=0.2"))


@pytest.mark.parametrize("whole", [True, False])
def test_an_archive_that_is_stored(tmp_path, monkeypatch, whole):
  images = RNG.integers(0, 256, (90, 4, 4, 1), dtype=np.uint8)
  y = np.arange(90) % 3
  arrays = {"x": images, "label": y} if whole else {
      "train": images[:60], "valid": images[60:75], "test": images[75:], "train_label": y[:60],
      "valid_label": y[60:75], "test_label": y[75:], "levels": np.array(256)}
  np.savez(tmp_path / "a.npz", **arrays)
  assert_same(*both(monkeypatch, f"npz:{tmp_path / 'a.npz'}"))


def test_a_folder_of_images(tmp_path, monkeypatch):
  for i in range(40):
    path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (6, 5), dtype=np.uint8)).save(path)
  ours, theirs = both(monkeypatch, f"folder:{tmp_path / 'pictures'}", "gdm.data.sources.folder.MEMORY_LIMIT")
  assert_same(ours, theirs)
  assert any((tmp_path / "cache").iterdir())


def test_a_folder_with_splits_of_its_own(tmp_path, monkeypatch):
  for split, num in (("train", 16), ("test", 5)):
    for i in range(num):
      path = tmp_path / "pictures" / split / f"{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(RNG.integers(0, 256, (6, 5), dtype=np.uint8)).save(path)
  name = f"folder:{tmp_path / 'pictures'}"
  assert_same(*both(monkeypatch, name, "gdm.data.sources.folder.MEMORY_LIMIT"))
  with pytest.raises(ConfigError, match="option split=rows of folder"):
    load_dataset(f"{name}#split=rows")


def test_what_cannot_be_mapped_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr("gdm.data.sources.mapped.MAPPED_FROM", 1)
  x = RNG.integers(0, 9, (50, 3))
  np.savez_compressed(tmp_path / "c.npz", x=x)
  with pytest.raises(DataError, match="array 'x' is compressed and cannot be mapped"):
    load_dataset(f"npz:{tmp_path / 'c.npz'}")
  np.savez(tmp_path / "f.npz", x=x.astype(float), fold=np.arange(50) % 5)
  with pytest.raises(ConfigError, match="option fold of npz is for arrays in memory"):
    load_dataset(f"npz:{tmp_path / 'f.npz'}#fold=1")
  np.savez(tmp_path / "d.npz", x=x.astype(float))
  with pytest.raises(DataError, match="has dtype float64"):
    load_dataset(f"npz:{tmp_path / 'd.npz'}")
  np.save(tmp_path / "i.npy", np.zeros((20, 9, 9), np.uint8))
  with pytest.raises(DataError, match="looks like images without an axis of channels"):
    load_dataset(f"npy:{tmp_path / 'i.npy'}")
  np.savez(tmp_path / "n.npz", x=x - 1)
  with pytest.raises(DataError, match="'train' holds values from -1 to 7"):
    load_dataset(f"npz:{tmp_path / 'n.npz'}")
  np.savez(tmp_path / "o.npz", y=x)
  with pytest.raises(DataError, match="has neither train nor x"):
    load_dataset(f"npz:{tmp_path / 'o.npz'}")
  content = (tmp_path / "n.npz").read_bytes()
  (tmp_path / "n.npz").write_bytes(content[:-40])
  with pytest.raises(DataError, match="cannot be read"):
    load_dataset(f"npz:{tmp_path / 'n.npz'}")


LABELS = np.arange(60) % 3
SPLITS = {"train": RNG.integers(0, 5, (60, 3)), "valid": RNG.integers(0, 5, (9, 3)), "test": RNG.integers(0, 5, (9, 3))}


@pytest.mark.parametrize(("arrays", "message"), [
    ({"y": np.array(["a"] * 60)}, "array 'y' has dtype <U1"),
    ({"y": LABELS + 0.5}, "array 'y' has dtype float64"),
    ({"y": LABELS - 1}, "array 'y' holds -1"),
    ({"y": LABELS + 2**32}, "array 'y' holds 4294967298; it must be below 2147483648"),
    ({"y": LABELS, "num_classes": np.array(2)}, "num_classes=2"),
    ({"labels": LABELS}, "array 'labels', which is not read"),
    ({"length": LABELS + 1}, "array 'length', which is read of files in memory alone"),
    ({"context": np.ones((60, 2))}, "array 'context', which is read of files in memory alone"),
    ({"fold": LABELS}, "array 'fold', which is read of files in memory alone"),
    ({**SPLITS, "test": SPLITS["test"] + 9}, "'test' holds values from .*value of the training split is 4"),
    ({**SPLITS, "train_label": LABELS}, "no array 'valid_label'"),
])
def test_a_mapped_file_follows_the_rules_of_arrays(tmp_path, monkeypatch, arrays, message):
  """What decides about the data of a small file is neither ignored nor cast in a large one."""
  monkeypatch.setattr("gdm.data.sources.mapped.MAPPED_FROM", 1)
  np.savez(tmp_path / "a.npz", **({} if "train" in arrays else {"x": SPLITS["train"]}), **arrays)
  with pytest.raises(DataError, match=message):
    load_dataset(f"npz:{tmp_path / 'a.npz'}")
