"""Text by words, by lines, and with [UNK]: what is a token, what the vocabulary holds, and what likelihood is per."""

import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.data.tokens import CHARACTERS, END, UNKNOWN, WORDS, Tokenizer
from gdm.errors import ConfigError, DataError

LINES = ["The cat sat on the mat.", "The dog (a big one) sat, too!", "", "It's the dog's mat: 3.14 of it -- no more..."]
TEXT = "\n".join(LINES * 40)


@pytest.fixture
def path(tmp_path):
  path = tmp_path / "story.txt"
  path.write_text(TEXT)
  return path


def words(text: str) -> list[str]:
  return [token for token, _ in WORDS.split(text)]


def shown(dataset, split) -> list[str]:
  rows = dataset.split(split)
  return [dataset.tokenizer.decode(x[:length]) for x, length in zip(rows["x"], rows["length"], strict=True)]


def test_words_marks_and_line_breaks():
  assert words("It's  3.14\tof\n well-known -- (a_b)... 'tis, [UNK]!?") == [
      "It's", "3.14", "of", "\n", "well-known", "--", "(", "a_b", ")", "...", "'", "tis", ",", "[UNK]", "!", "?"]
  assert WORDS.join(words(" It 's\n\n a  ( big ) one , no ?! ")) == "It ' s\n\na (big) one, no?!"


@hypothesis.given(st.text(st.sampled_from("ab1_.,-'\u2019()[]!… \n\t\u00a0é猫"), max_size=30))
def test_the_normal_form_has_the_same_tokens(text):
  normal = WORDS.join(words(text))
  assert words(normal) == words(text)
  assert WORDS.join(words(normal)) == normal
  # nothing but white space is lost
  assert re.sub(r"\s", "", normal) == re.sub(r"\s", "", text)


def test_places_are_those_of_the_text():
  text = "a (b-c)  d!!\n"
  assert all(text.startswith(token, place) for token, place in WORDS.split(text))


def test_encoding_then_decoding_is_the_normal_form():
  tokenizer = Tokenizer.of(WORDS, ["the", "cat", "\n", "."], unknown=True, end=True)
  assert tokenizer.vocabulary == ("the", "cat", "\n", ".", UNKNOWN, END) and len(tokenizer) == 6
  ids = tokenizer.encode("the  cat .\nthe dog")
  np.testing.assert_array_equal(ids, [0, 1, 3, 2, 0, 4])
  assert tokenizer.decode(ids) == "the cat.\nthe [UNK]"
  np.testing.assert_array_equal(tokenizer.encode(tokenizer.decode(ids)), ids)
  assert tokenizer.decode([0, 5, 1]) == "the"  # the text ends at [EOS]
  assert tokenizer.encode("").shape == (0,) and tokenizer.decode([]) == ""


def test_an_unknown_token_is_named_with_its_place():
  with pytest.raises(DataError, match="the character 'c' at position 2 is not in the vocabulary"):
    Tokenizer.of(CHARACTERS, "ab", unknown=False, end=True).encode("abca")
  with pytest.raises(DataError, match="the word 'cat' at position 4"):
    Tokenizer.of(WORDS, ["the"], unknown=False, end=False).encode("the cat")
  # the names of special tokens are no tokens of a text by characters
  np.testing.assert_array_equal(Tokenizer.of(CHARACTERS, "ab", unknown=True, end=True).encode("a[EOS]"),
                                [0, 2, 2, 2, 2, 2])


def test_the_vocabulary_is_of_the_training_split_alone(tmp_path):
  path = tmp_path / "story.txt"
  path.write_text("a a b b c d " * 9 + "e e e e e e ")  # the last tenth is all new
  dataset = load_dataset(f"text:{path}#tokens=words&context=7")
  assert dataset.tokenizer.vocabulary == ("a", "b", "c", "d", UNKNOWN)
  assert shown(dataset, "valid") == ["[UNK] [UNK] [UNK] [UNK] [UNK] [UNK]"]
  assert dataset.units["valid"] == {"tokens": 6, "unknown": 6, "characters": 11}
  with pytest.raises(DataError, match=r"the word 'e' at position 108, in the validation part.*unknown=allowed"):
    load_dataset(f"text:{path}#tokens=words&unknown=refused&context=7")


def test_what_occurs_once_teaches_unk(tmp_path):
  path = tmp_path / "story.txt"
  path.write_text("a a rare b b " * 1 + "a b " * 20)
  dataset = load_dataset(f"text:{path}#tokens=words&context=4")
  assert dataset.tokenizer.vocabulary == ("a", "b", UNKNOWN) and dataset.units["train"]["unknown"] == 1
  assert load_dataset(f"text:{path}#tokens=words&context=4&vocabulary=1").tokenizer.vocabulary == ("a", UNKNOWN)
  assert load_dataset(f"text:{path}#context=4&unknown=allowed").tokenizer.unknown is not None


def test_every_word_is_served_once(path):
  dataset = load_dataset(f"text:{path}#tokens=words&context=16&vocabulary=20")
  cut = int(0.9 * len(TEXT))
  for split, part in (("train", TEXT[:cut]), ("valid", TEXT[cut:])):
    rows = dataset.split(split)
    ids = np.concatenate([x[:length] for x, length in zip(rows["x"], rows["length"], strict=True)])
    np.testing.assert_array_equal(ids, dataset.tokenizer.encode(part))
    assert dataset.units[split] == {"tokens": len(ids), "unknown": int((ids == 20).sum()),
                                    "characters": len(WORDS.join(words(part)))}
  assert dataset.spec.levels == 21 and dataset.name == "text:story#tokens=words&vocabulary=20"


@pytest.mark.parametrize("tokens", ["characters", "words"])
def test_each_line_is_an_example_that_ends(path, tokens):
  dataset = load_dataset(f"text:{path}#unit=lines&tokens={tokens}&context=50")
  lines = [line for line in LINES if line] * 40
  assert shown(dataset, "train") + shown(dataset, "valid") == lines
  assert len(shown(dataset, "valid")) == 12
  end = dataset.tokenizer.end
  for split in dataset.splits:
    rows = dataset.split(split)
    last = rows["x"][np.arange(len(rows["x"])), rows["length"] - 1]
    assert (last == end).all() and (rows["x"] == end).sum() == len(last)
  # [EOS] stands for the line break
  assert dataset.units["valid"]["characters"] == sum(len(line) + 1 for line in lines[-12:])
  # training serves the lines as they are, padding included
  drawn = dataset.split("train").draw(np.arange(3), 5)
  np.testing.assert_array_equal(drawn["x"], dataset.split("train")["x"][:3])


def test_longer_lines_are_cut_and_only_the_last_part_ends(tmp_path):
  path = tmp_path / "lines.txt"
  path.write_bytes(b"abcd\r\nab\r\n\r\nabc\r\n" * 10)
  dataset = load_dataset(f"text:{path}#unit=lines&context=4")
  valid = dataset.split("valid")
  np.testing.assert_array_equal(valid["length"], [4, 1, 3, 4])
  assert shown(dataset, "valid") == ["abcd", "", "ab", "abc"]
  assert dataset.tokenizer.vocabulary == (*"abcd", END)


def test_paragraphs(tmp_path):
  path = tmp_path / "play.txt"
  path.write_text("ab\nba\n\n \nb a\n\n" * 10)
  dataset = load_dataset(f"text:{path}#unit=paragraphs&context=8")
  assert shown(dataset, "valid") == ["ab\nba", "b a"]


@pytest.mark.parametrize(("options", "error", "message"), [
    ("tokens=word", ConfigError, "option tokens='word' of text is unknown; did you mean 'words'"),
    ("unit=line", ConfigError, "did you mean 'lines'"),
    ("vocabulary=0", ConfigError, "at least 1"),
    ("vocabulary=5&unknown=refused", ConfigError, r"needs \[UNK\]"),
    ("tokens=words&vocabulary=500", DataError, "vocabulary=500, but its training part has only 2[0-9] distinct words"),
    ("vocabulary=500", DataError, "distinct characters"),
    ("tokens=words&context=5000", DataError, "too short: its training part has [0-9]+ words, 2[0-9] different"),
    ("vocab=5", ConfigError, "no option 'vocab'; did you mean 'vocabulary'"),
])
def test_bad_options_get_a_sentence(path, options, error, message):
  with pytest.raises(error, match=message):
    load_dataset(f"text:{path}#{options}")


def test_words_that_all_occur_once(tmp_path):
  path = tmp_path / "list.txt"
  path.write_text(" ".join(f"word{i}" for i in range(50)))
  with pytest.raises(DataError, match="no word occurs twice in its training part"):
    load_dataset(f"text:{path}#tokens=words&context=4")
  path.write_text(" \n \n")
  with pytest.raises(DataError, match="is empty"):
    load_dataset(f"text:{path}#tokens=words")
