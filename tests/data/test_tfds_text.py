"""Texts of TFDS: documents and streams, splits and vocabulary, and the same text by `text:`."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.prepared_sets import write_set

from gdm.data.description import Description
from gdm.data.load import load_dataset, load_like
from gdm.data.sources import tfds_text
from gdm.data.sources.request import Request
from gdm.data.sources.tfds import open_set
from gdm.data.tokens import END, UNKNOWN
from gdm.errors import ConfigError, DataError
from gdm.studies.text_scores import text_of

F = tfds.features
TEXT = F.FeaturesDict({"text": F.Text()})
REVIEW = F.FeaturesDict({"label": F.ClassLabel(num_classes=2), "text": F.Text()})
PLAY = "the cat sat on the mat, and the dog ate the cat's hat.\n" * 20
LINES = [f"{word} the cat sat, and {word} again" for word in ("one", "two", "six", "ten") * 5]


def texts(*each: str) -> list[dict]:
  return [{"text": text} for text in each]


def load(root, options="", **more):
  return load_dataset(f"tfds:toy{options}", data_dir=str(root), **more)


def shown(dataset, split) -> list[str]:
  rows = dataset.split(split)
  return [dataset.tokenizer.decode(x[:length]) for x, length in zip(rows["x"], rows["length"], strict=True)]


@pytest.mark.parametrize("options", ["context=16", "context=9&tokens=words&vocabulary=6",
                                     "context=60&unit=lines", "context=16&unknown=allowed"])
def test_one_example_a_split_is_the_text_of_a_file(tmp_path, options):
  at = int(0.9 * len(PLAY)) if "unit" not in options else PLAY.index("\n") * 18 + 18
  write_set(tmp_path, TEXT, {"train": texts(PLAY[:at]), "validation": texts(PLAY[at:]), "test": texts(PLAY[:99])})
  (tmp_path / "play.txt").write_text(PLAY)
  ours, theirs = load(tmp_path, f"#{options}", seed=3), load_dataset(f"text:{tmp_path}/play.txt#{options}", seed=3)
  assert ours.tokenizer == theirs.tokenizer and ours.spec == theirs.spec
  assert list(ours.splits) == ["train", "valid", "test"]
  for split in ("train", "valid"):
    assert ours.fingerprint(split) == theirs.fingerprint(split) and ours.units[split] == theirs.units[split]
  drawn = [each.split("train").draw(np.arange(4), 2) for each in (ours, theirs)]
  np.testing.assert_array_equal(drawn[0]["x"], drawn[1]["x"])
  assert ours.name == theirs.name.replace("text:play", "tfds:toy")
  if "unit" not in options and "words" not in options:
    assert ours.tokenizer.decode(text_of(ours, "test")) == PLAY[:99]


@pytest.mark.parametrize("options", ["context=16", "context=60&unit=lines", "context=16&tokens=words"])
def test_one_example_in_train_alone_is_split_as_a_file_is(tmp_path, options):
  write_set(tmp_path, TEXT, {"train": texts(PLAY.replace("\n", "\r\n"))})
  (tmp_path / "play.txt").write_text(PLAY)
  ours, theirs = load(tmp_path, f"#{options}"), load_dataset(f"text:{tmp_path}/play.txt#{options}")
  assert ours.identity == theirs.identity and ours.units == theirs.units


def test_examples_are_documents_that_end(tmp_path):
  write_set(tmp_path, REVIEW, {"train": [{"text": line, "label": 0} for line in (*LINES[:18], " ")],
                               "validation": [{"text": line, "label": 1} for line in LINES[18:]],
                               "test": [{"text": "one two", "label": 1}],
                               "unsupervised": [{"text": "?", "label": -1}]})
  (tmp_path / "lines.txt").write_text("\n".join(LINES))
  ours, theirs = load(tmp_path, "#context=40"), load_dataset(f"text:{tmp_path}/lines.txt#context=40&unit=lines")
  assert ours.tokenizer.vocabulary[-1] == END and ours.info["unit"] == "documents" and ours.name == "tfds:toy"
  for split in ("train", "valid"):
    assert ours.fingerprint(split) == theirs.fingerprint(split) and ours.units[split] == theirs.units[split]


def test_a_document_may_have_lines_and_be_longer_than_the_context(tmp_path):
  write_set(tmp_path, TEXT, {"train": texts("ab\nba", "b", "aab\n"), "validation": texts("a\nb\n\nab", "")})
  dataset = load(tmp_path, "#context=4")
  assert shown(dataset, "train") == ["ab\nb", "a", "b", "aab\n", ""]
  assert list(dataset.split("train")["length"]) == [4, 2, 2, 4, 1] and shown(dataset, "valid") == ["a\nb\n", "\nab"]
  assert shown(load(tmp_path, "#context=4&unit=lines"), "valid") == ["a", "b", "ab"]
  assert shown(load(tmp_path, "#context=4&unit=paragraphs"), "valid") == ["a\nb", "ab"]


def test_no_window_of_a_stream_reaches_into_the_next_example(tmp_path):
  write_set(tmp_path, TEXT, {"train": texts("aaaaa", "", "bbbbbbb"), "validation": texts("ab", "ba")})
  dataset = load(tmp_path, "#context=4&unit=stream")
  assert dataset.tokenizer.end is None and dataset.name == "tfds:toy#unit=stream"
  assert shown(dataset, "train") == ["aaaa", "a", "bbbb", "bbb"] and shown(dataset, "valid") == ["ab", "ba"]
  drawn = dataset.split("train").draw(np.arange(4), 1)["x"]
  assert {tuple(row) for row in drawn.tolist()} <= {(0,) * 4, (1,) * 4}


def test_the_vocabulary_is_of_the_training_split_alone(tmp_path):
  write_set(tmp_path, TEXT, {"train": texts("a a b", "b a"), "validation": texts("a new"), "test": texts("b c")})
  dataset = load(tmp_path, "#tokens=words&context=5")
  assert dataset.tokenizer.vocabulary == ("a", "b", UNKNOWN, END)
  assert shown(dataset, "test") == ["b [UNK]"]
  assert dataset.units["test"] == {"tokens": 3, "unknown": 1, "characters": 4}
  with pytest.raises(DataError, match=r"split valid, example 0: the character 'n' at position 2, in the validation "
                                      r"part, does not occur in the training part; .*#unknown=allowed"):
    load(tmp_path)


@pytest.mark.parametrize(("sizes", "found", "rule"), [
    ({"train": 20, "test": 3}, {"train": 17, "valid": 3, "test": 3}, "the last 3 of TFDS's train"),
    ({"train": 20, "test": 19}, {"train": 16, "valid": 4, "test": 19}, "the last 4 of TFDS's train"),
    ({"train": 20}, {"train": 18, "valid": 2}, "the last 2 of TFDS's train"),
    ({"train": 20, "validation": 5}, {"train": 20, "valid": 5}, None),
])
def test_a_validation_split_that_is_missing_is_the_end_of_train(tmp_path, sizes, found, rule):
  write_set(tmp_path, TEXT, {split: texts(*LINES[:num]) for split, num in sizes.items()})
  dataset = load(tmp_path)
  assert {split: dataset.num_examples(split) for split in dataset.splits} == found
  assert dataset.info.get("valid") == rule
  assert shown(dataset, "valid") == (LINES[found["train"]:20] if rule else LINES[:5])


def test_the_feature_that_is_asked_for(tmp_path):
  features = F.FeaturesDict({"id": np.str_, "data": {"title": F.Text(), "body": F.Text()}, "label": np.int32,
                             "answers": F.Sequence(F.Scalar(np.int32))})
  rows = [{"id": "x1", "data": {"title": f"title {i % 3}", "body": "the body"}, "label": 1, "answers": [1, 2]}
          for i in range(20)]
  write_set(tmp_path, features, {"train": rows})
  dataset = load(tmp_path, "#text=data/body")
  assert shown(dataset, "valid") == ["the body"] * 2 and dataset.name == "tfds:toy#text=data/body"
  assert shown(load(tmp_path, "#text=id"), "valid") == ["x1"] * 2
  with pytest.raises(ConfigError, match="has several texts: data/body, data/title; choose one, as #text=data/body"):
    load(tmp_path)
  with pytest.raises(ConfigError, match=r"option text=body of tfds must be a text of .*did you mean 'data/body'"):
    load(tmp_path, "#text=body")
  with pytest.raises(ConfigError, match=r"option text=answers of tfds must be a text of .*, which is Sequence; known"):
    load(tmp_path, "#text=answers")
  assert load(tmp_path, "#columns=data/title,label&split=rows").info["columns"][0]["kind"] == "category"


def test_other_text_is_read_by_the_vocabulary_of_a_model(tmp_path):
  write_set(tmp_path / "one", TEXT, {"train": texts(*LINES)})
  write_set(tmp_path / "two", TEXT, {"train": texts(*LINES[:10][::-1])})
  like = Description.of(load(tmp_path / "one", "#context=40"))
  other = load_like(like, "tfds:toy", data_dir=str(tmp_path / "two"))
  assert other.tokenizer == like.tokenizer and other.spec.event == (40,)
  # one example is a document for a model of documents, a stream for one of a stream
  write_set(tmp_path / "one_each", TEXT, {split: texts(LINES[0] + LINES[2]) for split in ("train", "validation")})
  document = load_like(like, "tfds:toy", data_dir=str(tmp_path / "one_each"))
  assert document.info["unit"] == "documents" and document.split("valid")["x"][-1].max() == like.tokenizer.end
  stream = Description.of(load(tmp_path / "two", "#context=40&unit=stream"))
  assert load_like(stream, "tfds:toy#context=40", data_dir=str(tmp_path / "two")).info["unit"] == "stream"


def test_text_larger_than_memory_is_refused(tmp_path):
  write_set(tmp_path, TEXT, {"train": texts(*LINES), "extra": texts("x")}, num_bytes=3 << 20)
  request = Request("tfds", "toy", {}, str(tmp_path))
  with pytest.raises(DataError, match=r"tfds:toy in .* has 3 MiB of text, and up to 2 MiB are loaded; .*experiments"
                                      r"\.prepare text:FOLDER --out=DIR, and take data.name=tokens:DIR"):
    tfds_text.load(open_set(request), request, 2 << 20)


@pytest.mark.parametrize(("examples", "options", "error", "message"), [
    (["ab"] * 9, "bins=3", ConfigError, "tfds:toy is read as text, which has no option bins; take it away: its"),
    (["ab"] * 9, "unit=line", ConfigError, "option unit='line' of tfds is unknown; did you mean 'lines'"),
    (["ab"] * 9, "context=0", ConfigError, "context='0' of tfds must be an integer of at least 1"),
    (["ab"] * 9, "tokens=bpe&unknown=allowed", ConfigError, "unknown=allowed of tfds, but byte pairs know every text"),
    (["aa"] * 9, "", DataError, "tfds:toy in .* is too short: its training part has 16 characters, 1 different"),
    (["ab", b"\xff"], "", DataError, "split train, example 1: its 'text' is not UTF-8: byte 0 is 0xff"),
])
def test_bad_text_gets_a_sentence(tmp_path, examples, options, error, message):
  write_set(tmp_path, TEXT, {"train": texts(*examples)})
  with pytest.raises(error, match=message):
    load(tmp_path, f"#{options}")


def test_a_training_split_is_needed(tmp_path):
  write_set(tmp_path, TEXT, {"test": texts("ab")})
  with pytest.raises(DataError, match="has the splits test; it needs train"):
    load(tmp_path)
