"""Byte pairs: every text comes back, they are learned from the training part alone, and a checkpoint can hold them."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.data.tokens import Tokenizer
from gdm.errors import ConfigError, DataError

pytest.importorskip("tokenizers")

TEXT = "the cat sat on the mat, and the dog sat on the cat.\nthe mat is flat.\n" * 60


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp("text") / "story.txt"
  path.write_text(TEXT)
  return path


@pytest.fixture(scope="module")
def tokenizer(path):
  return load_dataset(f"text:{path}#tokens=bpe&vocabulary=270&context=8").tokenizer


@hypothesis.given(text=st.text(max_size=40))
def test_every_text_comes_back(tokenizer, text):
  text = text.encode("utf-8", "ignore").decode()
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == text
  assert all(text[place:] or not token for token, place in tokenizer.rule.split(text))


def test_they_are_learned_from_the_training_part(path, tmp_path):
  dataset = load_dataset(f"text:{path}#tokens=bpe&vocabulary=270&context=8")
  assert dataset.spec.levels == 270 and dataset.name == "text:story#tokens=bpe&vocabulary=270"
  cut = int(0.9 * len(TEXT))
  other = tmp_path / "story.txt"
  other.write_text(TEXT[:cut] + "zyxzyx " * ((len(TEXT) - cut) // 7) + "z" * ((len(TEXT) - cut) % 7))
  again = load_dataset(f"text:{other}#tokens=bpe&vocabulary=270&context=8")
  assert again.tokenizer == dataset.tokenizer and again.identity["train"] == dataset.identity["train"]
  assert again.identity["vocabulary"] == dataset.identity["vocabulary"]
  rows = dataset.split("valid")
  tokens = np.concatenate([x[:length] for x, length in zip(rows["x"], rows["length"], strict=True)])
  assert dataset.tokenizer.decode(tokens) == TEXT[cut:]
  assert dataset.units["valid"]["characters"] == len(TEXT) - cut > 2 * dataset.units["valid"]["tokens"]


def test_lines_end(path):
  dataset = load_dataset(f"text:{path}#tokens=bpe&unit=lines&context=64")
  rows = dataset.split("valid")
  assert dataset.tokenizer.decode(rows["x"][0]) in TEXT.splitlines() and rows["x"][0].max() == dataset.tokenizer.end


def test_a_record_in_json_is_the_tokenizer(tokenizer):
  again = Tokenizer.from_json(json.loads(json.dumps(tokenizer.to_json())))
  assert again == tokenizer and again.decode(again.encode("a cat é")) == "a cat é"


@pytest.mark.parametrize(("options", "error", "message"), [
    ("vocabulary=100", ConfigError, "vocabulary=100 with tokens=bpe must be at least 256"),
    ("vocabulary=5000", DataError, r"vocabulary=5000, but its training part has byte pairs for \d+ only"),
    ("unknown=allowed", ConfigError, "unknown=allowed of text, but byte pairs know every text"),
])
def test_bad_options_get_a_sentence(path, options, error, message):
  with pytest.raises(error, match=message):
    load_dataset(f"text:{path}#tokens=bpe&{options}")


def test_without_the_library(path, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
  with pytest.raises(ConfigError, match=r"option tokens=bpe of text needs the package tokenizers.*'\.\[bpe\]'"):
    load_dataset(f"text:{path}#tokens=bpe")
