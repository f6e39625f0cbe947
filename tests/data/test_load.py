"""From a name to a data set."""

import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, DataError


def test_digits_is_the_same_for_every_seed():
  dataset = load_dataset("digits", seed=1)
  assert {name: dataset.num_examples(name) for name in dataset.splits} == {"train": 1297, "valid": 200, "test": 300}
  assert dataset.spec.event == (8, 8, 1) and dataset.spec.levels == 17 and dataset.spec.num_classes == 10
  # written down, so that results of different days and machines are about the same data
  assert dataset.fingerprint("test") == load_dataset("digits", seed=2).fingerprint("test") == "9747c3f6b223026a"
  assert dataset.split("train")["x"].max() == 16


def test_digits_holds_every_image_once():
  from sklearn.datasets import load_digits

  dataset = load_dataset("digits")
  ours = np.concatenate([dataset.split(name)["x"].reshape(-1, 64) for name in dataset.splits])
  theirs = load_digits().data.astype(np.uint8)
  np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


@pytest.mark.parametrize(("name", "message"), [
    ("digit", "no source 'digit'; did you mean 'digits'"),
    ("mnist", "no source 'mnist'; known: csv, digits, folder, "),
    ("digits:8", "takes nothing after a colon"),
    ("toy2d", "needs a density"),
    ("npz", "needs a path, as npz:<name> or by data.path"),
    ("npz:a.npz#flod=1", "no option 'flod'; did you mean 'fold'"),
    ("digits#size=3", "no option 'size'; it has none"),
    ("text:a.txt#context=x", "context='x'"),
    ("text:a.txt#context=0", "at least 1"),
    ("text:a.txt#context=--3", "context='--3'"),
    ("csv:a.csv#columns=", "option columns of csv is empty; write columns=..., or leave it out"),
    ("text:a.txt#unit&context=8", "option unit of text is empty"),
    ("npz:a.npz#valid=0.1&valid=0.3", "option valid of npz comes twice, as '0.1' and as '0.3'"),
])
def test_bad_names_get_a_sentence(name, message):
  with pytest.raises(ConfigError, match=message):
    load_dataset(name)


@pytest.mark.parametrize(("name", "path", "message"), [
    ("npz:a.npz", "b.npz", "data.path is 'b.npz', which would not be read; .* data.name=npz with data.path"),
    ("digits", "b.npz", "which would not be read; leave data.path empty"),
    ("npz#fold=1", "b.npz#fold=2", "options after # in one of them"),
])
def test_two_places_get_a_sentence(name, path, message):
  with pytest.raises(ConfigError, match=message):
    load_dataset(name, path=path)


@pytest.mark.parametrize("kind", ["csv", "tsv", "npy", "folder"])
def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path, kind):
  place = tmp_path / "a"
  if kind == "folder":
    place.write_text("")
  else:
    place.mkdir()
  message = "is a file, where a folder is wanted" if kind == "folder" else "is a folder, where a file is wanted"
  with pytest.raises(DataError, match=message):
    load_dataset(f"{kind}:{place}")
