"""Arrays that bring no splits: one of an npz or npy file, and the names that keras gives."""

import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, DataError

X = np.random.default_rng(0).integers(0, 7, (200, 5))
Y = np.arange(200) % 3


def rows_of(dataset) -> np.ndarray:
  return np.concatenate([dataset.split(name)["x"] for name in dataset.splits])


def same_rows(ours, theirs) -> bool:
  return sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


def test_one_array_is_split_by_the_rule(tmp_path):
  np.save(tmp_path / "x.npy", X)
  np.savez(tmp_path / "a.npz", X)
  np.savez(tmp_path / "b.npz", x=X, label=Y)
  alone, unnamed, labelled = (load_dataset(f"npz:{tmp_path / name}") for name in ("x.npy", "a.npz", "b.npz"))
  assert alone.name == "npy:x" and unnamed.name == "npz:a"
  assert same_rows(rows_of(alone), X) and alone.spec.levels == 7 and labelled.spec.num_classes == 3
  assert alone.info["split"] == "by the hash of each example: valid=0.1, test=0.1"
  assert alone.info["levels"] == "the largest value of the set is 6"
  for name in alone.splits:
    assert alone.fingerprint(name) == unnamed.fingerprint(name)
    np.testing.assert_array_equal(alone.split(name)["x"], labelled.split(name)["x"])
  label = dict(zip(map(tuple, X.tolist()), Y.tolist(), strict=True))
  for x, y in zip(labelled.split("test")["x"].tolist(), labelled.split("test")["y"], strict=True):
    assert label[tuple(x)] == y


def test_keras_names(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
  np.savez(tmp_path / "k.npz", x_train=images[:50], y_train=Y[:50, None], x_test=images[50:], y_test=Y[50:60, None])
  dataset = load_dataset(f"npz:{tmp_path}/k.npz#layout=images&valid=0.2")
  np.testing.assert_array_equal(dataset.split("test")["x"][..., 0], images[50:])
  assert dataset.num_examples("train") + dataset.num_examples("valid") == 50 and dataset.spec.num_classes == 3
  assert dataset.info["split"].startswith("test as it is brought; of the training part by the hash")
  with pytest.raises(ConfigError, match=r"option test of npz says how to split a set, but npz file .* brings its own"):
    load_dataset(f"npz:{tmp_path}/k.npz#layout=images&test=0.2")


def test_shares_of_splits_that_are_brought(tmp_path):
  np.savez(tmp_path / "mine.npz", train=X[:100], valid=X[100:150], test=X[150:])
  with pytest.raises(ConfigError, match="option valid of npz says how to split one array"):
    load_dataset(f"npz:{tmp_path}/mine.npz#valid=0.2")


@pytest.mark.parametrize(("write", "message"), [
    (lambda path: None, "does not exist"),
    (lambda path: path.write_bytes(b"no array"), "cannot be read: .*write it by np.save"),
    (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "cannot be read: .*save numbers only"),
    (lambda path: np.save(path, X[:, 0]), r"shape \(200,\); it must be \[N, ...\]"),
    (lambda path: np.save(path, X - 1), "is -1; levels count from 0"),
])
def test_bad_npy_files(tmp_path, write, message):
  write(tmp_path / "x.npy")
  with pytest.raises(DataError, match=message):
    load_dataset(f"npy:{tmp_path}/x.npy")


def test_labels_of_another_number(tmp_path):
  np.savez(tmp_path / "b.npz", x=X, label=Y[:10])
  with pytest.raises(DataError, match=r"array 'label' has dtype .* and shape \(10,\); it must hold 200 integers"):
    load_dataset(f"npz:{tmp_path}/b.npz")
