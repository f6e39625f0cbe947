"""Other data than those that a model was trained with: read as the model knows data, and all of them."""

import numpy as np
import pytest

from gdm.data.description import Description
from gdm.data.load import load_dataset, load_like, says_where
from gdm.errors import DataError

X = np.random.default_rng(0).integers(0, 5, size=(60, 4))


def written(folder, kind, x, name="new"):
  """A file of rows that brings no splits."""
  path = folder / f"{name}.{kind}"
  if kind == "csv":
    np.savetxt(path, x, "%d", ",", header="a,b,c,d", comments="")
  elif kind == "npy":
    np.save(path, x)
  elif kind == "hdf5":
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
      file["x"] = x
  else:
    np.savez(path, x=x)
  return f"{kind}:{path}"


@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "hdf5"])
def test_rows_without_splits_are_all_scored_in_their_order(tmp_path, kind):
  known = Description.of(load_dataset(written(tmp_path, kind, X)))
  for rows in (X[:7], X[:1]):
    found = load_like(known, written(tmp_path, kind, rows, "other"))
    assert tuple(found.splits) == ("test",)
    np.testing.assert_array_equal(found.split("test")["x"], rows)
    assert found.spec == known.spec
  with pytest.raises(DataError, match="has no split 'valid'; known: test"):
    found.split("valid")


@pytest.mark.parametrize("kind", ["npz", "npy", "csv"])
def test_the_training_data_in_another_place_are_split_as_they_were(tmp_path, kind):
  dataset = load_dataset(written(tmp_path, kind, X))
  again = load_like(Description.of(dataset), written(tmp_path, kind, X, "moved"))
  assert again.identity == dataset.identity and len(again.splits) == 3


def test_a_file_may_hold_a_test_split_alone_and_shares_may_be_asked_for(tmp_path):
  known = Description.of(load_dataset(written(tmp_path, "npz", X)))
  np.savez(tmp_path / "test.npz", test=X[:9], test_label=np.arange(9) % 2)
  found = load_like(known, f"npz:{tmp_path / 'test.npz'}")
  assert tuple(found.splits) == ("test",) and found.num_examples("test") == 9
  parts = load_like(known, f"npz:{tmp_path / 'new.npz'}#test=0.5")
  assert set(parts.splits) == {"train", "valid", "test"}
  np.savez(tmp_path / "both.npz", train=X[:20], test=X[20:30])
  assert load_like(known, f"npz:{tmp_path / 'both.npz'}").num_examples("test") == 10
  np.savez(tmp_path / "test.npz", test=X[:9, :2])
  with pytest.raises(DataError, match="are integers of shape"):
    load_like(known, f"npz:{tmp_path / 'test.npz'}")


def test_a_name_that_says_where_needs_no_path():
  assert says_where("npz:a.npz") and says_where("digits") and says_where("npz:a.npz#fold=1")
  assert not says_where("npz#fold=1") and not says_where("csv")
