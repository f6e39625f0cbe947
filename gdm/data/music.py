"""Music as notes: piano rolls and voices to notes and back, and notes as MIDI files.

A step of a sequence is a fraction of a quarter note. A roll [steps, keys] has a 1 where a key sounds, from the lowest
key on; a note that is struck again without a pause is one long note there. Voices [steps, voices] hold the pitch of
each voice, 0 for a rest. Pitches are MIDI's: 60 is the middle C, and semitones count.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from gdm import checks
from gdm.errors import ConfigError, DataError
from gdm.extras import load_extra

LOWEST_KEY, NUM_KEYS = 21, 88  # of a piano
FORMS = ("roll", "voices")  # that an option names
EVENTS = "events"  # of rolls, by the transform: see note_events.py
TICKS = 480  # of a MIDI file that is written, per quarter note
TEMPO = 600_000  # microseconds per quarter note: 100 of them in a minute
DRUMS = 9  # the channel of MIDI on which pitches are no pitches


class Note(NamedTuple):
  """A note: where it begins and ends, in steps, its pitch, and the number of its voice."""

  start: int
  stop: int
  pitch: int
  voice: int = 0


@dataclasses.dataclass(frozen=True)
class Music:
  """How integers are music; kept in `Dataset.info["music"]`.

  Attributes:
    form: "roll", "voices", or "events", tokens of a roll.
    steps_per_quarter: steps of a quarter note.
    lowest: pitch of the first key of a roll.
  """

  form: str = "roll"
  steps_per_quarter: int = 4
  lowest: int = LOWEST_KEY

  def __post_init__(self) -> None:
    checks.one_of("music.form", self.form, (*FORMS, EVENTS))
    checks.at_least("music.steps_per_quarter", self.steps_per_quarter, 1)

  @classmethod
  def of(cls, info: Mapping[str, Any]) -> "Music | None":
    """Return how the data whose facts these are is music; None where it is none."""
    return cls(**info["music"]) if "music" in info else None

  @classmethod
  def parse(cls, text: str) -> "Music":
    """Return what the words of an option say, "roll:1" or "voices:4". Raise ConfigError for others."""
    form, _, steps = text.partition(":")
    if form not in FORMS or not (steps.isdecimal() and int(steps) > 0):
      raise ConfigError(f"data.name: option music={text!r} must be roll or voices, a colon and the steps of a quarter "
                        "note, as voices:4.")
    return cls(form, int(steps))

  def notes(self, x: Integer[np.ndarray, "steps ..."]) -> list[Note]:
    """Return the notes of a roll or of voices [steps, _] without padding, by their start, then their pitch.

    Raise ConfigError of events, of which `gdm.data.note_events.from_events` makes a roll.
    """
    if self.form == EVENTS:
      raise ConfigError("music.form is 'events', tokens that have no steps; make a roll of them first (from_events).")
    found = []
    for column, values in enumerate(np.asarray(x).T):
      pitches = np.where(values > 0, self.lowest + column, 0) if self.form == "roll" else values.astype(int)
      breaks = np.flatnonzero(np.diff(pitches, prepend=-1, append=-1))
      voice = 0 if self.form == "roll" else column
      found += [Note(int(start), int(stop), int(pitches[start]), voice)
                for start, stop in itertools.pairwise(breaks) if pitches[start]]
    return sorted(found, key=lambda note: (note.start, note.pitch))


def roll_of(notes: Sequence[Note], lowest: int = LOWEST_KEY, num_keys: int = NUM_KEYS
            ) -> Integer[np.ndarray, "steps keys"]:
  """Return notes as a piano roll that ends with the last of them. Raise DataError for a pitch that has no key."""
  roll = np.zeros((max(note.stop for note in notes), num_keys), np.uint8)
  for note in notes:
    if not 0 <= note.pitch - lowest < num_keys:
      raise DataError(f"a note has pitch {note.pitch}; the keys of a roll are {lowest} to {lowest + num_keys - 1}: "
                      "transpose the piece, or leave the note out.")
    roll[note.start:note.stop, note.pitch - lowest] = 1
  return roll


def write_midi(path: pathlib.Path, notes: Sequence[Note], steps_per_quarter: int) -> None:
  """Write notes as a MIDI file with a track for each voice. Raise ConfigError where the extra "midi" is missing.

  Example:
    write_midi(Path("chorale.mid"), Music("voices", 4).notes(x), 4)
  """
  mido = _mido(f"{path}")
  file = mido.MidiFile(ticks_per_beat=TICKS)
  for voice in sorted({note.voice for note in notes}) or [0]:
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=TEMPO)])
    own = [note for note in notes if note.voice == voice]
    # At one time notes end before others begin, so that one that is struck again is not cut off.
    events = sorted([(note.stop, 0, note.pitch) for note in own] + [(note.start, 1, note.pitch) for note in own])
    before = 0
    for step, begins, pitch in events:
      kind, velocity = ("note_on", 80) if begins else ("note_off", 0)
      now = round(step * TICKS / steps_per_quarter)  # of each step, lest what is rounded off adds up
      track.append(mido.Message(kind, note=pitch, velocity=velocity, time=now - before, channel=min(voice, DRUMS - 1)))
      before = now
    file.tracks.append(track)
  file.save(str(path))


def read_midi(path: pathlib.Path, steps_per_quarter: int) -> list[Note]:
  """Return the notes of a MIDI file, each track a voice, to the nearest step and at least one step long.

  Percussion is left out. Raise DataError for a file that is damaged, without notes, or without quarter notes;
  ConfigError where the extra "midi" is missing.
  """
  mido = _mido(f"{path}")
  try:
    file = mido.MidiFile(str(path))
  except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
    raise DataError(f"MIDI file {path} is damaged or no MIDI file ({str(error) or type(error).__name__}); export it "
                    "again.") from error
  if file.ticks_per_beat <= 0:
    raise DataError(f"MIDI file {path} counts time in frames of film, not in quarter notes; export it with ticks per "
                    "quarter note.")
  found = []
  for voice, track in enumerate(file.tracks):
    time, sounding = 0, {}
    for message in track:
      time += message.time
      if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
        continue
      key = message.channel, message.note
      if key in sounding:
        found.append((sounding.pop(key), time, message.note, voice))
      if message.type == "note_on" and message.velocity:
        sounding[key] = time
    found += [(start, time, pitch, voice) for (_, pitch), start in sounding.items()]
  if not found:
    raise DataError(f"MIDI file {path} has no notes; leave it out.")
  scale = steps_per_quarter / file.ticks_per_beat
  starts = [round(start * scale) for start, *_ in found]
  notes = [Note(start, max(round(stop * scale), start + 1), pitch, voice)
           for start, (_, stop, pitch, voice) in zip(starts, found, strict=True)]
  return sorted(notes, key=lambda note: (note.start, note.pitch))


def _mido(what: str) -> Any:
  return load_extra("mido", "midi", what)
