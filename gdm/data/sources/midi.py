"""Music: `midi:<path>`, a MIDI file or a folder of them with all its sub-folders, and after "#", joined by "&":

  steps=4     steps of a quarter note
  context=64  windows of 64 steps, as of joined sequences (joined.py); else each piece is an example
  valid=0.1, test=0.1  shares of the pieces that are held out, by the hash of each (gdm/data/partition.py)

A folder with sub-folders train, valid and test is split by them. An example is a piano roll, [steps, 88] of zeros and
ones, padded to the longest piece, with its length; see gdm/data/music.py. Needs the extra "midi".
"""

import dataclasses
import pathlib

import numpy as np

from gdm.data import partition
from gdm.data.dataset import SPLITS, Dataset
from gdm.data.music import NUM_KEYS, Music, read_midi, roll_of
from gdm.data.sources.joined import in_windows
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.dataspec import DataSpec
from gdm.errors import DataError

OPTIONS = ("steps", "context", *partition.OPTIONS)
SUFFIXES = (".mid", ".midi")
DEFAULT_STEPS = 4

Rolls = list[np.ndarray]


def load(request: Request) -> Dataset:
  """Piano rolls "x" [N, steps, 88] with "length" [N].

  Raise DataError for a missing folder or one without MIDI files, a damaged file, one without notes, or a note that no
  piano has; it names the file.
  """
  path, steps = pathlib.Path(request.argument), request.integer("steps", DEFAULT_STEPS, minimum=1)
  brought = [name for name in SPLITS if path.is_dir() and (path / name).is_dir()]
  folders = {name: path / name for name in brought} if "train" in brought else {"train": path}
  rolls = {name: [_roll(file, steps) for file in _files(folder)] for name, folder in folders.items()}
  longest = max(len(roll) for each in rolls.values() for roll in each)
  parts, rule = partition.complete({name: _padded(each, longest) for name, each in rolls.items()}, request,
                                   f"midi:{path}")
  music = Music("roll", steps)
  info = {"source": str(path), "files": sum(map(len, rolls.values())), "split": rule,
          "music": dataclasses.asdict(music)}
  spec = DataSpec((longest, NUM_KEYS), 2, has_lengths=True)
  dataset = Dataset(f"midi:{path.stem}", spec, {name: MemorySplit(rows) for name, rows in parts.items()}, info)
  return in_windows(dataset, request, f"midi:{path}")


def _roll(file: pathlib.Path, steps: int) -> np.ndarray:
  notes = read_midi(file, steps)
  try:
    return roll_of(notes)
  except DataError as error:
    raise DataError(f"MIDI file {file}: {error}") from error


def _padded(rolls: Rolls, longest: int) -> dict[str, np.ndarray]:
  x = np.zeros((len(rolls), longest, NUM_KEYS), np.uint8)
  for row, roll in zip(x, rolls, strict=True):
    row[:len(roll)] = roll
  return {"x": x, "length": np.array([len(roll) for roll in rolls], np.int32)}


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  if path.is_file():
    return [path]
  if not path.is_dir():
    raise DataError(f"MIDI file or folder {str(path)!r} does not exist; name it by data.path or midi:<path>.")
  files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
  if not files:
    raise DataError(f"folder {path} holds no MIDI file; name one with files that end in {' or '.join(SUFFIXES)}.")
  return files
