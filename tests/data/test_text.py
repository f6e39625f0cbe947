"""Text by characters."""

import numpy as np
import pytest

from gdm.data.dataset import Dataset, check
from gdm.data.description import Description
from gdm.data.load import load_dataset, load_like
from gdm.data.loader import Loader, eval_batches
from gdm.data.windows import cut
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError

TEXT = "the cat sat on the mat, and the dog ate the cat's hat.\n" * 20


@pytest.fixture
def path(tmp_path):
  path = tmp_path / "story.txt"
  path.write_bytes(TEXT.encode())
  return path


def decode(dataset, batch) -> list[str]:
  vocabulary = dataset.info["vocabulary"]
  return ["".join(vocabulary[i] for i in row[:length]) for row, length in zip(batch["x"], batch["length"], strict=True)]


def test_every_character_is_scored_once(path):
  dataset = load_dataset(f"text:{path}#context=16")
  cut = int(0.9 * len(TEXT))
  for split, part in (("train", TEXT[:cut]), ("valid", TEXT[cut:])):
    shown = "".join("".join(decode(dataset, dataset.split(split).rows(slice(None)))))
    assert shown == part
    rows = [(row, keep) for batch in eval_batches(dataset, split, 7)
            for row, keep in zip(decode(dataset, batch), batch["mask"], strict=True)]
    assert "".join(row for row, keep in rows if keep) == part


def test_line_breaks_and_a_byte_order_mark_are_no_characters_of_their_own(path, tmp_path):
  plain = load_dataset(f"text:{path}#context=16")
  files = {"dos": TEXT.replace("\n", "\r\n"), "mac": TEXT.replace("\n", "\r"), "bom": "\ufeff" + TEXT}
  for name, content in files.items():
    (tmp_path / f"{name}.txt").write_bytes(content.encode())
    other = load_dataset(f"text:{tmp_path / name}.txt#context=16")
    assert other.info["vocabulary"] == plain.info["vocabulary"]
    assert all(other.fingerprint(split) == plain.fingerprint(split) for split in ("train", "valid"))


def test_the_identity_knows_the_vocabulary(path, tmp_path):
  """Another text may give the same ids."""
  (tmp_path / "other.txt").write_text(TEXT.replace("t", "u"))  # u is not in the text, and follows t in order
  one, two = (load_dataset(f"text:{file}#context=16") for file in (path, tmp_path / "other.txt"))
  assert one.fingerprint("train") == two.fingerprint("train") and one.identity != two.identity
  assert one.identity.keys() == {"train", "valid", "vocabulary"}


def test_spec_and_splits(path):
  dataset = load_dataset("text", path=f"{path}#context=16")
  assert dataset.name == "text:story" and dataset.spec.event == (16,) and dataset.spec.levels == len(set(TEXT))
  assert list(dataset.splits) == ["train", "valid"]
  with pytest.raises(DataError, match="no split 'test'; known: train, valid"):
    dataset.split("test")


def test_training_windows_are_full_pieces_of_the_text_and_new_in_every_epoch(path):
  dataset = load_dataset(f"text:{path}#context=16", seed=3)
  train = TEXT[:int(0.9 * len(TEXT))]
  loader = Loader(dataset, dataset.num_examples("train"), seed=3)
  epochs = [decode(dataset, {key: value[0] for key, value in loader.next_batches().items()}) for _ in range(3)]
  for epoch in epochs:
    assert all(len(window) == 16 and window in train for window in epoch)
  assert len({tuple(sorted(epoch)) for epoch in epochs}) == 3


def test_training_windows_reach_both_ends_of_the_text(tmp_path):
  path = tmp_path / "ab.txt"
  path.write_text("abcdefghijabcdefghij")
  dataset = load_dataset(f"text:{path}#context=10")
  seen = {row for epoch in range(100) for row in decode(dataset, dataset.split("train").draw(np.arange(2), epoch))}
  assert seen == {("abcdefghij" * 2)[i:i + 10] for i in range(9)}


def test_the_last_window_of_each_piece_is_shorter():
  found = cut([np.arange(10), np.arange(0), np.arange(8), np.arange(1)], 4)
  np.testing.assert_array_equal(found["x"], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0], [0, 1, 2, 3], [4, 5, 6, 7],
                                             [0, 0, 0, 0]])
  np.testing.assert_array_equal(found["length"], [4, 4, 2, 4, 4, 1])


@pytest.mark.parametrize(("length", "message"), [
    ([4, 0, 3], "the length of example 1 is 0; lengths lie between 1 and the context, 4"),
    ([4, 1, 5], "the length of example 2 is 5"),
])
def test_lengths_that_no_sequence_has(length, message):
  rows = {"x": np.zeros((3, 4), np.uint8), "length": np.array(length, np.int32)}
  with pytest.raises(DataError, match=message):
    check(Dataset("lines", DataSpec(event=(4,), levels=2), {"train": rows}))


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"abc", "too short"),
    (b"a" * 1000, "1 different"),
    (b"ab" * 500 + b"c", "'c' at position 1000.*does not occur in the training part"),
    (b"ab\xff" * 500, "not UTF-8: byte 2 is 0xff"),
])
def test_bad_text_gets_a_sentence(tmp_path, content, message):
  path = tmp_path / "bad.txt"
  path.write_bytes(content)
  with pytest.raises(DataError, match=message):
    load_dataset(f"text:{path}")


def test_a_missing_file(tmp_path):
  with pytest.raises(DataError, match="does not exist"):
    load_dataset(f"text:{tmp_path / 'none.txt'}")


@pytest.mark.parametrize(("trained", "other", "message"), [
    ("#unit=lines", "", "unit=stream of text, but the vocabulary that is given has .EOS., .*: set unit=lines"),
    ("#unit=lines", "&unit=stream", "has .EOS."),
    ("", "&unit=lines", "unit=lines of text, but the vocabulary that is given has no .EOS. .*: set unit=stream"),
])
def test_other_text_is_cut_as_the_vocabulary_of_the_model_has_it(tmp_path, trained, other, message):
  path = tmp_path / "a.txt"
  path.write_text("ab ba\n" * 40)
  like = Description.of(load_dataset(f"text:{path}{trained}" + ("&" if trained else "#") + "context=8"))
  with pytest.raises(ConfigError, match=message):
    load_like(like, f"text:{path}#context=8{other}")
  assert load_like(like, f"text:{path}#context=8&unit={'lines' if trained else 'stream'}").tokenizer == like.tokenizer
