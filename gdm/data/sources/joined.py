"""Sequences in an archive: joined one after another or padded to one length, whole or cut into windows.

Padded, train [N, steps, ...] has a length for each row. Joined, train [rows, ...] holds all sequences one after
another, and the lengths add up to its rows: labels are then one for each sequence. Which of the two it is follows from
the shapes. After "#":

  context=64  windows of 64 steps: evaluation and a pass over the training split see windows that don't overlap, so that
              every step is scored once; training sees as many per epoch, at random offsets. Else each sequence is an
              example, padded to the longest of all splits
  rate=8000   the sequences are sound in 8-bit mu-law (gdm/data/mu_law.py) of so many samples per second
  music=roll:1 or music=voices:4
              they are music (gdm/data/music.py): piano rolls, or voices, of so many steps per quarter note
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from gdm.data import partition
from gdm.data.dataset import SPLITS, Dataset
from gdm.data.mu_law import LEVELS
from gdm.data.music import NUM_KEYS, Music
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.data.windows import at_random_offsets, cut, labels_of_windows
from gdm.errors import ConfigError, DataError

OPTIONS = ("context", "rate", "music")

Arrays = Mapping[str, np.ndarray]
Pieces = list[np.ndarray]


def separated(arrays: Arrays, request: Request, where: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Return the arrays with joined sequences apart, each padded to the longest, and the rule by which they were split.

  A missing validation split is taken from the training split by the hash of its sequences.

  Raise DataError where the lengths of one split are those of joined sequences, and of another are not.
  """
  joined = [name for name in SPLITS if _is_joined(arrays, name)]
  if not joined:
    return dict(arrays), {}
  found = [name for name in SPLITS if name in arrays]
  for name in (name for name in found if name not in joined):
    raise DataError(f"{where}: the sequences of {joined[0]!r} are joined, but array {name!r} has {len(arrays[name])} "
                    f"rows, and '{name}_length' does not add up to that; join all splits, or none.")
  pieces = {name: np.split(arrays[name], np.cumsum(arrays[f"{name}_length"])[:-1]) for name in found}
  longest = max(int(arrays[f"{name}_length"].max()) for name in found)
  parts = {name: _padded(pieces[name], longest, arrays, name) for name in found}
  for name in (name for name in found if any(len(part) != len(parts[name]["x"]) for part in parts[name].values())):
    raise DataError(f"{where}: '{name}_label' has {len(parts[name]['y'])} labels, but there are "
                    f"{len(parts[name]['x'])} sequences in {name!r}; each needs one.")
  rule = {}
  if "valid" not in parts:
    parts, words = partition.complete(parts, request, where)
    rule = {"split": words}
  rest = {name: array for name, array in arrays.items() if name.partition("_")[0] not in SPLITS}
  endings = {"x": "", "y": "_label", "length": "_length"}
  return {**rest, **{f"{name}{endings[key]}": rows for name, part in parts.items() for key, rows in part.items()}}, rule


def in_windows(dataset: Dataset, request: Request, where: str) -> Dataset:
  """Return sequences of different lengths as the options say: in windows, as sound, as music.

  Raise ConfigError where the data have no lengths, or are no 8-bit sound, no music.
  """
  if "music" in request.options:
    dataset = _as_music(dataset, Music.parse(request.options["music"]), where)
  if "rate" in request.options:
    if dataset.spec.levels != LEVELS or len(dataset.spec.event) != 1:
      raise ConfigError(f"data.name: option rate of {request.kind} is for sound in 8-bit mu-law, but {where} holds "
                        f"examples of shape {dataset.spec.event} and {dataset.spec.levels} levels; take it away.")
    dataset = dataclasses.replace(dataset, sample_rate=request.integer("rate", minimum=1))
  if "context" not in request.options:
    return dataset
  if not dataset.spec.has_lengths:
    raise ConfigError(f"data.name: option context of {request.kind} cuts sequences into windows, but {where} has no "
                      "lengths (train_length, ...); take it away.")
  if dataset.spec.prefix_steps:
    raise ConfigError(f"data.name: options context and prefix of {request.kind} cannot go together: a prefix is of a "
                      "whole sequence; take one of them away.")
  context, splits = request.integer("context", minimum=1), {}
  for name in dataset.splits:
    rows = dataset.split(name).rows(slice(None))
    pieces = [x[:length] for x, length in zip(rows["x"], rows["length"], strict=True)]
    windows = {**cut(pieces, context), **({"y": labels_of_windows(pieces, context, rows["y"])} if "y" in rows else {})}
    moves = (at_random_offsets(pieces, context, request.seed, rows.get("y")),) if name == "train" else ()
    splits[name] = MemorySplit(windows, windows, moves) if moves else MemorySplit(windows)
  spec = dataclasses.replace(dataset.spec, event=(context, *dataset.spec.event[1:]))
  return dataclasses.replace(dataset, splits=splits, spec=spec, info={**dataset.info, "context": context})


def _as_music(dataset: Dataset, music: Music, where: str) -> Dataset:
  spec = dataset.spec
  is_roll = spec.levels == 2 and len(spec.event) == 2 and spec.event[1] == NUM_KEYS
  is_voices = spec.levels is not None and 2 < spec.levels <= 128 and len(spec.event) == 2
  if not (is_roll if music.form == "roll" else is_voices):
    raise ConfigError(f"data.name: option music={music.form} is for {_FORMS[music.form]}, but {where} holds examples "
                      f"of shape {spec.event} and {spec.levels} levels; take it away.")
  return dataclasses.replace(dataset, info={**dataset.info, "music": dataclasses.asdict(music)})


_FORMS = {"roll": f"zeros and ones [steps, {NUM_KEYS}]", "voices": "pitches below 128 [steps, voices]"}


def _is_joined(arrays: Arrays, name: str) -> bool:
  length = arrays.get(f"{name}_length")
  if name not in arrays or length is None or length.ndim != 1 or length.dtype.kind not in "ui" or not len(length):
    return False
  rows = len(arrays[name]) if arrays[name].ndim else 0
  return len(length) != rows and int(length.min()) >= 1 and int(length.sum(dtype=np.int64)) == rows


def _padded(pieces: Pieces, longest: int, arrays: Arrays, name: str) -> dict[str, np.ndarray]:
  x = np.zeros((len(pieces), longest, *pieces[0].shape[1:]), pieces[0].dtype)
  for row, piece in zip(x, pieces, strict=True):
    row[:len(piece)] = piece
  label = {"y": arrays[f"{name}_label"]} if f"{name}_label" in arrays else {}
  return {"x": x, "length": arrays[f"{name}_length"], **label}
