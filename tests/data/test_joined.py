"""Sequences joined in one array: each comes apart whole, windows see every step once, and labels stay theirs."""

import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
LENGTHS = {"train": [3, 7, 5, 2], "valid": [4, 1], "test": [6]}


def pieces_of(levels=2, width=(3,), lengths=None):
  found = {name: [RNG.integers(0, levels, (length, *width)).astype(np.uint8) for length in each]
           for name, each in (lengths or LENGTHS).items()}
  found["train"][0][:2] = np.array([levels - 1, 0]).reshape(2, *(1,) * len(width))  # both ends are seen
  return found


def save(tmp_path, pieces, **more):
  arrays = {name: np.concatenate(each) for name, each in pieces.items()}
  lengths = {f"{name}_length": np.array([len(piece) for piece in each]) for name, each in pieces.items()}
  np.savez(tmp_path / "mine.npz", **{**arrays, **lengths, **more})
  return f"npz:{tmp_path / 'mine.npz'}"


def test_each_sequence_is_an_example_padded_to_the_longest(tmp_path):
  pieces = pieces_of()
  dataset = load_dataset(save(tmp_path, pieces))
  assert dataset.spec.event == (7, 3) and dataset.spec.levels == 2 and dataset.spec.has_lengths
  for name, each in pieces.items():
    split = dataset.split(name)
    assert split["length"].tolist() == LENGTHS[name]
    for x, piece in zip(split["x"], each, strict=True):
      np.testing.assert_array_equal(x[:len(piece)], piece)
      assert not x[len(piece):].any()


def test_windows_have_every_step_once_and_the_label_of_their_sequence(tmp_path):
  pieces = pieces_of(200, ())
  labels = {f"{name}_label": np.arange(len(each)) % 2 for name, each in pieces.items()}
  dataset = load_dataset(save(tmp_path, pieces, **labels) + "#context=3")
  assert dataset.spec.event == (3,) and dataset.spec.num_classes == 2
  split = dataset.split("train")
  assert split["length"].tolist() == [3, 3, 3, 1, 3, 2, 2] and split["y"].tolist() == [0, 1, 1, 1, 0, 0, 1]
  heard = np.concatenate([x[:length] for x, length in zip(split["x"], split["length"], strict=True)])
  np.testing.assert_array_equal(heard, np.concatenate(pieces["train"]))
  for epoch in range(3):
    drawn = split.draw(np.arange(7), epoch)
    for x, length, y in zip(drawn["x"], drawn["length"], drawn["y"], strict=True):
      inside = [piece[start:start + 3] for i, piece in enumerate(pieces["train"]) if i % 2 == y
                for start in range(len(piece))]
      assert any(len(part) == length and (part == x[:length]).all() for part in inside)


def test_a_missing_validation_split_is_of_whole_sequences(tmp_path):
  pieces = pieces_of(lengths={"train": [3] * 30, "test": [2]})
  dataset = load_dataset(save(tmp_path, pieces))
  nums = {name: dataset.num_examples(name) for name in dataset.splits}
  assert nums["train"] + nums["valid"] == 30 and 1 <= nums["valid"] < 10 and nums["test"] == 1
  assert "by the hash of each example" in dataset.info["split"]


def test_sound_has_a_rate_and_music_a_form(tmp_path):
  sound = save(tmp_path, pieces_of(256, ()))
  np.savez(tmp_path / "sound.npz", **{**np.load(tmp_path / "mine.npz"), "levels": 256})
  assert load_dataset(f"npz:{tmp_path / 'sound.npz'}#rate=8000").sample_rate == 8000
  with pytest.raises(ConfigError, match="option music=roll is for zeros and ones"):
    load_dataset(f"{sound}#music=roll:1")
  rolls = save(tmp_path, pieces_of(2, (88,)))
  assert load_dataset(f"{rolls}#music=roll:1").info["music"] == {"form": "roll", "steps_per_quarter": 1, "lowest": 21}
  with pytest.raises(ConfigError, match="option rate of npz is for sound"):
    load_dataset(f"{rolls}#rate=8000")
  with pytest.raises(ConfigError, match=r"music='roll' must be roll or voices, a colon"):
    load_dataset(f"{rolls}#music=roll")


def test_what_does_not_fit_is_said(tmp_path):
  pieces = pieces_of()
  name = save(tmp_path, pieces, valid_length=np.array([4, 2]))
  with pytest.raises(DataError, match="'train' are joined, but array 'valid' has 5 rows"):
    load_dataset(name)
  name = save(tmp_path, pieces, train_label=np.zeros(3, int), valid_label=np.zeros(2, int),
              test_label=np.zeros(1, int))
  with pytest.raises(DataError, match="'train_label' has 3 labels, but there are 4 sequences"):
    load_dataset(name)
  np.savez(tmp_path / "table.npz", **{split: np.zeros((4, 3), np.uint8) for split in ("train", "valid", "test")})
  with pytest.raises(ConfigError, match="option context of npz cuts sequences into windows"):
    load_dataset(f"npz:{tmp_path / 'table.npz'}#context=2")
