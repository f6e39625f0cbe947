"""Token files: the same windows as the text in memory, made in any number of shards, and after any kill."""

import json
import os

import numpy as np
import pytest

from gdm.data import preparation
from gdm.data.description import Description
from gdm.data.load import load_dataset, load_like, text_request
from gdm.data.loader import Loader, eval_batches
from gdm.data.preparation import prepare
from gdm.data.sources.passages import Choices, choices_of
from gdm.data.sources.request import Request
from gdm.data.token_files import read_manifest, verify
from gdm.errors import ConfigError, DataError
from gdm.studies.text_scores import text_of

LINES = ["the cat sat on the mat, and the dog ate the cat's hat.", "", "a well-known 3.14 -- pi!", "  naïve «Ω» words",
         "\tthe end of it; the end", "of the cat", "", "", "and the hat (of the dog)..."]
TEXT = "\n".join(LINES * 30)
OPTIONS = ["", "tokens=words", "tokens=words&vocabulary=12", "tokens=bpe&vocabulary=300", "unit=lines",
           "unit=paragraphs", "unit=lines&tokens=words", "unit=paragraphs&tokens=bpe&vocabulary=280",
           "vocabulary=9", "unknown=allowed"]


def choices(options="") -> Choices:
  return choices_of(Request("text", "", dict(pair.split("=") for pair in filter(None, options.split("&")))))


@pytest.fixture
def path(tmp_path):
  path = tmp_path / "story.txt"
  path.write_bytes(TEXT.encode())
  return path


def both(path, out, options, context=16, seed=0):
  in_memory = load_dataset(f"text:{path}#{options + '&' * bool(options)}context={context}", seed=seed)
  return in_memory, load_dataset(f"tokens:{out}#context={context}", seed=seed)


@pytest.mark.parametrize("options", OPTIONS)
def test_windows_are_those_of_the_text_in_memory(path, tmp_path, monkeypatch, options):
  """Shards of 200 bytes and chunks of 40 cut wherever they may, also just before and after the splits' border."""
  monkeypatch.setattr("gdm.data.text_shards.CHUNK_BYTES", 40)
  prepare(path, tmp_path / "out", choices(options), num_workers=1, shard_bytes=200)
  ours, theirs = both(path, tmp_path / "out", options)
  assert theirs.tokenizer == ours.tokenizer and theirs.spec == ours.spec and theirs.units == ours.units
  for split in ("train", "valid"):
    assert theirs.fingerprint(split) == ours.fingerprint(split)
  batches = [Loader(dataset, 8, seed=5, minibatches=3).next_batches(4) for dataset in (ours, theirs)]
  for key in batches[0]:
    np.testing.assert_array_equal(batches[0][key], batches[1][key])
    assert batches[0][key].dtype == batches[1][key].dtype
  for one, other in zip(*(eval_batches(dataset, "valid", 7) for dataset in (ours, theirs)), strict=True):
    assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
@pytest.mark.parametrize("options", ["", "unit=lines", "unit=paragraphs"])
def test_line_breaks_and_a_byte_order_mark_are_no_characters_of_their_own(tmp_path, monkeypatch, ending, options):
  monkeypatch.setattr("gdm.data.text_shards.CHUNK_BYTES", 11)
  path = tmp_path / "dos.txt"
  path.write_bytes(b"\xef\xbb\xbf" + "\n".join(LINES * 5).replace("\n", ending).encode())
  prepare(path, tmp_path / "out", choices(options), num_workers=1, shard_bytes=400)
  ours, theirs = both(path, tmp_path / "out", options)
  assert all(theirs.fingerprint(split) == ours.fingerprint(split) for split in ("train", "valid"))


def test_every_file_of_a_folder_is_a_document(tmp_path):
  folder = tmp_path / "books"
  folder.mkdir()
  for number, part in enumerate((TEXT[:500], TEXT[500:507], "", TEXT[507:])):
    (folder / f"{number}.txt").write_text(part)
  (folder / ".hidden").write_text("no text")
  found = prepare(folder, tmp_path / "out", choices(), num_workers=1, shard_bytes=100)
  assert found.splits["train"].documents == 3 and found.splits["valid"].documents == 1
  rows = load_dataset(f"tokens:{tmp_path / 'out'}#context=16").split("train").rows(slice(None))
  assert rows["length"].tolist()[:33] == [16] * 31 + [4, 7]  # 500 = 31 * 16 + 4: no window reaches into the next file
  shown = "".join(found.tokenizer.decode(row[:num]) for row, num in zip(rows["x"], rows["length"], strict=True))
  assert shown == TEXT[:int(0.9 * len(TEXT))]


def test_a_killed_preparation_goes_on_and_ends_the_same(path, tmp_path, monkeypatch):
  whole = prepare(path, tmp_path / "whole", choices("tokens=words"), num_workers=1, shard_bytes=300)
  done, work = [], preparation._do

  def killed(job):
    if len(done) == 25:
      raise KeyboardInterrupt
    done.append(job.name)
    work(job)

  monkeypatch.setattr(preparation, "_do", killed)
  with pytest.raises(KeyboardInterrupt):
    prepare(path, tmp_path / "out", choices("tokens=words"), num_workers=1, shard_bytes=300)
  with pytest.raises(DataError, match="is not finished"):
    load_dataset(f"tokens:{tmp_path / 'out'}")
  before, again = list(done), []
  monkeypatch.setattr(preparation, "_do", lambda job: (again.append(job.name), work(job)))
  resumed = prepare(path, tmp_path / "out", choices("tokens=words"), num_workers=1, shard_bytes=300)
  assert resumed == whole and again and not set(again) & set(before)
  assert not (tmp_path / "out" / "parts").exists() and verify(tmp_path / "out") > 0


@pytest.mark.slow
def test_processes_make_the_same_files(path, tmp_path):
  found = [prepare(path, tmp_path / str(num), choices("tokens=bpe&vocabulary=300"), num_workers=num, shard_bytes=1000)
           for num in (1, 2)]
  assert found[0] == found[1]


def test_a_text_with_the_tokenizer_of_another_one(path, tmp_path):
  other = tmp_path / "other.txt"
  other.write_text("the mat sat on the cat\n" * 30)
  first = prepare(path, tmp_path / "first", choices(), num_workers=1)
  second = prepare(other, tmp_path / "second", choices(), tokenizer=first.tokenizer, num_workers=1)
  assert second.tokenizer == first.tokenizer
  with pytest.raises(DataError, match="has \\[EOS\\], but examples of unit=stream"):
    lines = prepare(path, tmp_path / "lines", choices("unit=lines"), num_workers=1)
    prepare(other, tmp_path / "third", choices(), tokenizer=lines.tokenizer, num_workers=1)


def test_another_text_or_folder_is_refused_and_left_alone(path, tmp_path):
  prepare(path, tmp_path / "out", choices(), num_workers=1)
  before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
  with pytest.raises(DataError, match="holds tokens of another text, or made by other options"):
    prepare(path, tmp_path / "out", choices("tokens=words"), num_workers=1)
  assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "thesis.tex").write_text("mine")
  with pytest.raises(DataError, match="has files that are no tokens"):
    prepare(path, tmp_path / "mine", choices(), num_workers=1)


@pytest.mark.parametrize("content, match", [
    (b"\xff" * 40, "is not UTF-8: byte 0 is 0xff"), (b"ab" * 400 + b"\xc3" + b"ab" * 20, "byte 800 is 0xc3"),
    (b"", "is too short"), (b"a" * 100, "1 different"), (b"ab" * 100 + b"c", "'c' at position 200"),
])
def test_bad_text(tmp_path, content, match):
  path = tmp_path / "bad.txt"
  path.write_bytes(content)
  with pytest.raises(DataError, match=match):
    prepare(path, tmp_path / "out", choices(), num_workers=1, shard_bytes=64)


def test_damaged_folders(path, tmp_path):
  out = tmp_path / "out"
  prepare(path, out, choices(), num_workers=1)
  tokens, manifest = out / "train-00000.tokens", out / "manifest.json"
  content, record = tokens.read_bytes(), json.loads(manifest.read_bytes())
  tokens.write_bytes(content[:-1])
  with pytest.raises(DataError, match="it is cut short"):
    load_dataset(f"tokens:{out}")
  tokens.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  with pytest.raises(DataError, match="its sha256 is not the one"):
    verify(out)
  tokens.write_bytes(content)
  assert verify(out) > len(content)
  manifest.write_text(json.dumps({**record, "dtype": "<u2"}))
  with pytest.raises(DataError, match="is damaged: its digest is another"):
    read_manifest(out)
  manifest.write_text(json.dumps(record))
  dataset = load_dataset(f"tokens:{out}#context=16")
  os.truncate(tokens, 10)
  with pytest.raises(DataError, match="was cut short while it was read"):
    dataset.split("train").rows(slice(0, 8))


def test_many_documents_are_found_by_blocks(tmp_path, monkeypatch):
  monkeypatch.setattr("gdm.data.sources.tokens._BLOCK", 3)
  path = tmp_path / "lines.txt"
  path.write_text("\n".join("ab" * (1 + i % 13) for i in range(100)))
  prepare(path, tmp_path / "out", choices("unit=lines"), num_workers=1)
  ours, theirs = both(path, tmp_path / "out", "unit=lines", context=8)
  order = np.random.default_rng(0).permutation(theirs.num_examples("train"))
  for key in ("x", "length"):
    np.testing.assert_array_equal(theirs.split("train").rows(order)[key], ours.split("train").rows(order)[key])


def test_tokens_for_a_model_of_the_text_and_of_another_one(path, tmp_path, monkeypatch):
  """A run on `text:` scores the same text prepared, as windows or whole; a folder of another tokenizer is refused."""
  prepare(path, tmp_path / "out", choices(), num_workers=1)
  ours, theirs = both(path, tmp_path / "out", "")
  like = Description.of(ours)
  found = load_like(like, f"tokens:{tmp_path / 'out'}#context=16")
  assert found.fingerprint("valid") == ours.fingerprint("valid")
  np.testing.assert_array_equal(text_of(theirs, "valid"), text_of(ours, "valid"))
  monkeypatch.setattr("gdm.studies.text_scores.MOST_TOKENS", 10)
  with pytest.raises(ConfigError, match="at most 10 are scored as one text"):
    text_of(theirs, "valid")
  prepare(path, tmp_path / "words", choices("tokens=words"), num_workers=1)
  with pytest.raises(DataError, match="has another vocabulary than text:story, which the run was trained on"):
    load_like(like, f"tokens:{tmp_path / 'words'}#context=16")
  assert load_dataset(f"text:{tmp_path / 'out'}#context=16").name == "tokens:story"  # where a variant says text
  with pytest.raises(ConfigError, match="is a folder of tokens already"):
    text_request(f"text:{tmp_path / 'out'}", {})
