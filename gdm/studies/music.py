"""Music of a trained run: written as MIDI and as a picture, and test pieces whose voices or bars are filled in."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer

from gdm.data.music import EVENTS, Music, Note, write_midi
from gdm.data.note_events import from_events, num_frames
from gdm.errors import ConfigError, SpecError
from gdm.model import HasComplete
from gdm.precision import at_highest_precision
from gdm.runs.plotting import shown_split
from gdm.runs.sampling import complete
from gdm.runs.trained import TrainedRun
from gdm.visualization.score import Bar, save_score

VOICES = ("soprano", "alto", "tenor", "bass")
_MOST_DRAWN = 6  # pieces of a picture

Pieces = Integer[np.ndarray, "num steps ..."]


class Harmonized(NamedTuple):
  """Pieces of which a part was kept and the rest drawn.

  Attributes:
    original: the test pieces, [num, steps, voices].
    x: the completions, of the same shape.
    known: which entries were kept, [steps, voices].
    lengths: steps of each that are real.
    agreement: share of the drawn real entries that are as in the original.
  """

  original: np.ndarray
  x: np.ndarray
  known: np.ndarray
  lengths: np.ndarray
  agreement: float


def require_music(run: TrainedRun) -> Music:
  """Return how a run's data is music. Raise ConfigError where it is none."""
  music = Music.of(run.data.info)
  if music is None:
    raise ConfigError(f"{run.data.name} is no music; train on midi:FOLDER, or name npz data's form by #music=voices:4.")
  return music


def frames_of_events(run: TrainedRun, split: str) -> int:
  """Return how many frames the split has, where music is tokens; 0 of other data."""
  music = Music.of(run.data.info)
  if music is None or music.form != EVENTS:
    return 0
  rows = run.dataset.split(split)
  return num_frames(np.asarray(rows["x"][:]), np.asarray(rows["length"][:]))


def region(keep: str, steps: int, voices: int, steps_per_quarter: int) -> Bool[np.ndarray, "steps voices"]:
  """Return which entries are kept: named voices, by commas ("soprano,bass"), or all outside of bars, "bars:3-4" say,
  of four quarter notes.

  Raise ConfigError for another word, or bars that are not there.
  """
  known = np.zeros((steps, voices), bool)
  if keep.startswith("bars:"):
    first, _, last = keep.removeprefix("bars:").partition("-")
    num = -(-steps // (4 * steps_per_quarter))
    ends = [int(word) if word.isdecimal() else 0 for word in (first, last or first)]
    if not 1 <= ends[0] <= ends[1] <= num:
      raise ConfigError(f"--keep is {keep!r}; the bars to fill in must be from 1 to {num}, as bars:2-3.")
    known[:] = True
    known[4 * steps_per_quarter * (ends[0] - 1):4 * steps_per_quarter * ends[1]] = False
    return known
  for name in filter(None, keep.split(",")):
    if name not in VOICES[:voices]:
      raise ConfigError(f"--keep is {keep!r}; it must name voices, of {', '.join(VOICES[:voices])}, or bars to fill "
                        "in, as bars:2-3.")
    known[:, VOICES.index(name)] = True
  return known


@at_highest_precision
def harmonize(run: TrainedRun, keep: str, num: int, seed: int) -> Harmonized:
  """Fill in what is not kept of `num` test pieces, spread over the split.

  Raise ConfigError where the run's data are no voices or the model completes nothing, SpecError where it cannot
  complete that region.
  """
  music = require_music(run)
  if music.form != "voices":
    raise ConfigError(f"{run.data.name} has no voices that could be kept, but piano rolls; train on voices.")
  if not isinstance(run.model, HasComplete):
    raise ConfigError(f"{run.config.model.name} cannot complete examples; ardm and masked fill in any region.")
  steps, voices = run.spec.event
  known = region(keep, steps, voices, music.steps_per_quarter)
  split = shown_split(run.dataset)
  lengths = np.asarray(split["length"][:]) if "length" in split else np.full(split.num_examples, steps)
  whole = np.flatnonzero(lengths == steps)
  if not len(whole):
    raise SpecError(f"{run.data.name} has no test piece of {steps} steps to fill in.")
  rows = split.rows(whole[np.linspace(0, len(whole) - 1, min(num, len(whole))).astype(int)])
  x = np.asarray(complete(run, rows["x"], known, seed).x)
  drawn = np.broadcast_to(~known, x.shape)
  agreement = float((x == rows["x"])[drawn].mean()) if drawn.any() else 1.0
  return Harmonized(rows["x"], x, known, np.full(len(x), steps), agreement)


def save_music(run: TrainedRun, name: str, x: Pieces, known: Bool[np.ndarray, "steps _"] | None = None,
               titles: Sequence[str] = ()) -> list[Path]:
  """Write each piece as `<name>_000.mid`, and the first ones as `<name>_score.png`, into the run's folder.

  Args:
    run: of music.
    name: beginning of the files' names.
    x: the pieces.
    known: which entries were given, which are shown pale; None for none.
    titles: of the pieces in the picture.

  Return the paths. Raise ConfigError where the data are no music, or the extra "midi" is missing.
  """
  music, paths = require_music(run), []
  shown: dict[str, list[Bar]] = {}
  for number, piece in enumerate(x):
    notes = music.notes(piece if music.form != EVENTS else from_events(piece, run.data.info["events"]["keys"]))
    paths.append(run.folder / f"{name}_{number:03}.mid")
    write_midi(paths[-1], notes, music.steps_per_quarter)
    if number < _MOST_DRAWN:
      title = titles[number] if number < len(titles) else f"{number + 1}"
      shown[title] = [(note.start, note.stop, note.pitch, note.voice,
                       known is not None and bool(known[note.start, _column(music, note)])) for note in notes]
  paths.append(run.folder / f"{name}_score.png")
  save_score(paths[-1], shown, steps_per_quarter=music.steps_per_quarter)
  return paths


def _column(music: Music, note: Note) -> int:
  return note.pitch - music.lowest if music.form == "roll" else note.voice
