"""Labelled files, and features that know the training part alone."""

import numpy as np
import pytest

from gdm.errors import DataError
from gdm.studies.labelled import FEATURES, LabelledExamples, deduplicated, read_labelled

ROWS, REST = np.arange(3), np.arange(3, 5)
TABLE = LabelledExamples(np.array([[0.0, 1, 5], [2, 1, 5], [4, 1, 5], [9, 0, 5], [0, 7, 6]]), np.array([0, 1, 0, 1, 0]),
                         ("a", "b"))


def test_tables_and_texts_are_read(tmp_path):
  np.savez(tmp_path / "table.npz", x=TABLE.x, label=np.array(["b", "a", "b", "a", "b"]))
  found = read_labelled(tmp_path / "table.npz")
  assert found.names == ("a", "b") and found.y.tolist() == [1, 0, 1, 0, 1] and not found.is_text
  (tmp_path / "texts.tsv").write_text("ham\thello there\nspam\tWIN £100\t now\n\nham\thello there\n", encoding="utf-8")
  found = read_labelled(tmp_path / "texts.tsv")
  assert found.is_text and found.x.tolist()[1] == "WIN £100\t now" and found.y.tolist() == [0, 1, 0]
  assert deduplicated(found).y.tolist() == [0, 1]


@pytest.mark.parametrize(("name", "text", "message"), [
    ("no.tsv", None, "no.tsv holds no labelled examples"), ("one.tsv", "ham\ta\nham\tb\n", "have the label ham"),
    ("untabbed.tsv", "ham a\n", "line 1 has no tab"), ("no.npz", "what", "holds no labelled examples")])
def test_other_files_are_told(tmp_path, name, text, message):
  if text is not None:
    (tmp_path / name).write_text(text)
  with pytest.raises(DataError, match=message):
    read_labelled(tmp_path / name)


def test_equal_examples_of_two_labels_are_told():
  with pytest.raises(DataError, match="example 1 has another label"):
    deduplicated(LabelledExamples(np.array(["a", "a"]), np.array([0, 1]), ("x", "y")))


def test_features_are_of_the_training_part():
  found = FEATURES["presence"](TABLE, ROWS, REST)
  assert found.spec.levels == 2 and found.train.tolist() == [[0, 1, 1], [1, 1, 1], [1, 1, 1]]
  found = FEATURES["standardized"](TABLE, ROWS, REST)  # two features do not vary in it
  np.testing.assert_allclose(found.train[:, 0], np.array([-2, 0, 2]) / np.sqrt(8 / 3), rtol=1e-6)
  np.testing.assert_allclose(found.test[:, 0], np.array([7, -2]) / np.sqrt(8 / 3), rtol=1e-6)
  assert found.spec.event == (1,) and FEATURES["logarithms"](TABLE, ROWS, REST).train.shape == (3, 1)
  texts = LabelledExamples(np.array(["Win a prize!", "a dog", "a cat", "prize prize", "dog?"]), TABLE.y, TABLE.names)
  found = FEATURES["presence"](texts, ROWS, REST)  # win a prize ! dog cat
  assert found.train.sum(axis=1).tolist() == [4, 2, 2] and found.test.sum(axis=1).tolist() == [1, 1]
  for name in ("standardized", "logarithms"):
    with pytest.raises(DataError, match="choose --features"):
      FEATURES[name](texts, ROWS, REST)
  with pytest.raises(DataError, match="no feature varies"):
    FEATURES["standardized"](TABLE, ROWS[:1], REST)
