"""MIDI: what is written is what is read, folders become rolls, and a bad file is named."""

import sys

import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.data.music import DRUMS, Music, Note, read_midi, roll_of, write_midi
from gdm.errors import ConfigError, DataError

mido = pytest.importorskip("mido")

NOTES = [Note(0, 4, 60, 0), Note(0, 2, 48, 1), Note(2, 6, 48, 1), Note(6, 7, 72, 0), Note(9, 10, 21, 1)]


def test_notes_come_back_as_they_were_written(tmp_path):
  write_midi(tmp_path / "a.mid", NOTES, 4)
  assert sorted(read_midi(tmp_path / "a.mid", 4)) == sorted(NOTES)
  file = mido.MidiFile(tmp_path / "a.mid")
  assert len(file.tracks) == 2 and file.length == pytest.approx(10 / 4 * 0.6)  # 100 quarter notes in a minute


@pytest.mark.parametrize("steps", [1, 3, 7, 9, 11, 13, 64])
def test_steps_that_are_no_whole_number_of_ticks_do_not_drift(tmp_path, steps):
  notes = [Note(100 * place, 100 * place + 1, 60) for place in range(20)]
  write_midi(tmp_path / "a.mid", notes, steps)
  assert read_midi(tmp_path / "a.mid", steps) == notes


def test_rolls_and_voices_are_notes_and_back():
  roll = roll_of(NOTES)
  assert roll.shape == (10, 88) and roll[:, 60 - 21].tolist() == [1] * 4 + [0] * 6
  again = Music("roll", 4).notes(roll)
  np.testing.assert_array_equal(roll_of(again), roll)
  assert Note(0, 6, 48) in again  # a note that is struck again without a pause is one
  voices = np.array([[60, 48], [60, 0], [62, 50], [62, 50]])
  assert Music("voices", 4).notes(voices) == [Note(0, 1, 48, 1), Note(0, 2, 60, 0), Note(2, 4, 50, 1),
                                              Note(2, 4, 62, 0)]
  with pytest.raises(DataError, match="pitch 10; the keys of a roll are 21 to 108"):
    roll_of([Note(0, 1, 10)])


def test_times_go_to_the_nearest_step_and_percussion_is_left_out(tmp_path):
  file = mido.MidiFile(ticks_per_beat=100)
  file.tracks.append(mido.MidiTrack([
      mido.Message("note_on", note=60, velocity=64, time=24), mido.Message("note_on", note=36, channel=DRUMS, time=0),
      mido.Message("note_on", note=60, velocity=0, time=30), mido.Message("note_on", note=62, velocity=1, time=44)]))
  file.save(tmp_path / "b.mid")
  assert read_midi(tmp_path / "b.mid", 4) == [Note(1, 2, 60), Note(4, 5, 62)]  # the last one ends with the track


def test_a_folder_is_split_by_its_folders_or_by_hashes(tmp_path):
  for number in range(12):
    (tmp_path / "all").mkdir(exist_ok=True)
    write_midi(tmp_path / "all" / f"{number:02}.mid", [Note(0, 1 + number, 60), Note(0, 1, 40 + number)], 4)
  dataset = load_dataset(f"midi:{tmp_path / 'all'}")
  assert dataset.spec.event == (12, 88) and dataset.spec.has_lengths
  assert sum(dataset.num_examples(name) for name in dataset.splits) == 12
  lengths = np.concatenate([dataset.split(name)["length"] for name in dataset.splits])
  assert sorted(lengths.tolist()) == list(range(1, 13))
  assert Music.of(dataset.info) == Music("roll", 4)
  for name, number in (("train", 0), ("valid", 5), ("test", 7)):
    (tmp_path / "cut" / name).mkdir(parents=True)
    write_midi(tmp_path / "cut" / name / "a.mid", [Note(0, 1 + number, 60)], 4)
  cut = load_dataset(f"midi:{tmp_path / 'cut'}#steps=8&context=4")
  assert {name: cut.split(name)["length"].tolist() for name in cut.splits} == {
      "train": [2], "valid": [4, 4, 4], "test": [4, 4, 4, 4]}


def test_bad_files_are_named(tmp_path, monkeypatch):
  (tmp_path / "damaged.mid").write_bytes(b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0MTrk\x00\x00\x00\xff\x00")
  mido.MidiFile().save(tmp_path / "silent.mid")
  write_midi(tmp_path / "high.mid", [Note(0, 1, 120)], 4)
  (tmp_path / "empty").mkdir()
  for name, words in (("damaged.mid", "damaged.mid is damaged or no MIDI file"), ("silent.mid", "silent.mid has no no"),
                      ("high.mid", "high.mid: a note has pitch 120"), ("empty", "holds no MIDI file"),
                      ("none", "does not exist")):
    with pytest.raises(DataError, match=words):
      load_dataset(f"midi:{tmp_path / name}")
  monkeypatch.setitem(sys.modules, "mido", None)
  with pytest.raises(ConfigError, match=r"install the extra 'midi'"):
    load_dataset(f"midi:{tmp_path / 'high.mid'}")
