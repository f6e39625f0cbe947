"""Captions as numbers of words: the tokens that examples are conditional on."""

import json

import numpy as np
import pytest

from gdm.data import captions
from gdm.data.description import Description
from gdm.data.load import load_dataset, load_like
from gdm.errors import ConfigError, DataError

TEXTS = ["a red heart", "A blue heart", "flag: red, blue"]


def saved(path, **changes):
  """An archive of three images a split, with captions."""
  rng = np.random.default_rng(0)
  arrays = {}
  for name, texts in (("train", TEXTS), ("valid", ["red heart"] * 3), ("test", ["a green heart", "red", "blue flag"])):
    arrays[name] = rng.integers(0, 255, (3, 4, 4, 3)).astype(np.uint8)
    arrays[f"{name}_caption"] = np.array(texts)
    arrays[f"{name}_tokens"] = rng.integers(0, 5, (3, 2)).astype(np.int32)
  arrays["train_tokens"][0, 0] = 4
  np.savez(path, **{**arrays, **changes})
  return path


def test_words_come_back_and_case_is_one():
  tokenizer = captions.tokenizer_of(TEXTS, 1)
  tokens = captions.encode(tokenizer, ["A Red heart"], 5, "here")
  assert tokens.shape == (1, 5) and (tokens[0, 3:] == 0).all() and (tokens[0, :3] > 0).all()
  assert captions.decode(tokenizer, tokens[0]) == "a red heart"
  unknown = captions.encode(tokenizer, ["a green heart"], 4, "here")[0]
  known = captions.encode(tokenizer, ["a red heart"], 4, "here")[0]
  np.testing.assert_array_equal(unknown, [known[0], len(tokenizer) - 1, known[2], 0])


@pytest.mark.parametrize(("text", "message"), [
    ("a red hart", r"'hart' is none of the \d+ words that the model knows of .*; near are \['heart'\]"),
    ("qqqq", r"'qqqq' is none of .*; choose others\."),
    ("", r"prompt: '' has 0 words; it must have 1 to 3"),
    ("a red blue heart", r"has 4 words; it must have 1 to 3"),
])
def test_prompts_that_cannot_be_used(text, message):
  with pytest.raises(DataError, match=message):
    captions.encode_prompts(captions.tokenizer_of(TEXTS, 1), [text], 3)


def test_words_of_few_captions_are_unknown():
  assert captions.tokenizer_of(TEXTS, 2).vocabulary == ("[PAD]", "a", "blue", "heart", "red", "[UNK]")
  assert captions.tokenizer_of(["red red red red", "red"], 2).vocabulary == ("[PAD]", "red", "[UNK]")  # captions count
  with pytest.raises(DataError, match="no word is in 4 captions of the training split or more; set #least lower"):
    captions.tokenizer_of(TEXTS, 4)


def test_an_archive_with_captions(tmp_path):
  path = saved(tmp_path / "images.npz")
  dataset = load_dataset(f"npz:{path}#prefix=caption&least=1")
  spec = dataset.spec
  assert (spec.prefix_steps, spec.prefix_levels) == (5, len(dataset.prefix_tokenizer))  # with ":" and ","
  words = [captions.decode(dataset.prefix_tokenizer, row) for row in dataset.split("test").rows(slice(None))["prefix"]]
  assert words == ["a [UNK] heart", "red", "blue flag"]
  description = Description.from_json(json.loads(json.dumps(Description.of(dataset).to_json())))
  assert description.spec == spec and description.prefix_tokenizer == dataset.prefix_tokenizer
  assert load_dataset(f"npz:{path}").spec.prefix_steps == 0  # not asked for
  numbers = load_dataset(f"npz:{path}#prefix=tokens")
  assert (numbers.spec.prefix_steps, numbers.spec.prefix_levels, numbers.prefix_tokenizer) == (2, 5, None)


def test_another_set_is_read_by_the_words_of_the_run(tmp_path):
  known = Description.of(load_dataset(f"npz:{saved(tmp_path / 'images.npz')}#prefix=caption&least=1"))
  other = saved(tmp_path / "other.npz", train_caption=np.array(["heart", "green", "red"]))
  dataset = load_like(known, f"npz:{other}#prefix=caption&least=1")
  words = [captions.decode(known.prefix_tokenizer, row) for row in dataset.split("train").rows(slice(None))["prefix"]]
  assert dataset.spec == known.spec and words == ["heart", "[UNK]", "red"]


@pytest.mark.parametrize(("changes", "name", "error", "message"), [
    ({}, "title", DataError, "has no array 'train_title', which #prefix=title asks for"),
    ({"valid_caption": np.array(["red"])}, "caption", DataError,
     r"array 'valid_caption' has dtype .* and shape \(1,\); it must hold 3 texts"),
    ({"train_caption": np.array(["", "red", "blue"])}, "caption", DataError,
     r"array 'train_caption': '' has 0 words"),
    ({"train_tokens": np.full((3, 2), -1)}, "tokens", DataError, "prefix_levels is 2, so that values must be integers"),
])
def test_captions_that_cannot_be_used(tmp_path, changes, name, error, message):
  path = saved(tmp_path / "images.npz", **changes)
  with pytest.raises(error, match=message):
    load_dataset(f"npz:{path}#prefix={name}&least=1")


def test_captions_of_a_file_without_splits(tmp_path):
  x = np.random.default_rng(0).integers(0, 255, (9, 4, 4, 3)).astype(np.uint8)
  np.savez(tmp_path / "images.npz", x=x, train_caption=np.array(["red"] * 9))
  with pytest.raises(ConfigError, match="option prefix='caption' needs a file with its own splits"):
    load_dataset(f"npz:{tmp_path / 'images.npz'}#prefix=caption&least=1")
