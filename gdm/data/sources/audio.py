"""Sound: `wav:<path>`, a file or a folder of files with all its sub-folders, and after "#", joined by "&":

  context=1024            samples of an example
  split=time | files      time: of every recording the first 80 % train, the next 10 % validate, the last 10 % test.
                          files: of the files, in the order of their names, the last tenth (at least one) tests, the
                          tenth before it validates, the others train

WAV files of 8 or 16 bits need nothing more; FLAC, Ogg, AIFF and WAV of other kinds (24 bits, floating point) need the
extra "sound". The rate is that of the files; of stereo the mean of both channels is taken. Each sample becomes one of
256 levels by mu-law (gdm/data/mu_law.py). Windows as of text: evaluation hears every sample once, training windows at
random offsets.
"""

import pathlib
import wave
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from gdm.data.dataset import SPLITS, Dataset
from gdm.data.mu_law import LEVELS, mu_law_encode
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.data.windows import at_random_offsets, cut
from gdm.dataspec import DataSpec
from gdm.errors import DataError
from gdm.extras import load_extra

OPTIONS = ("context", "split")
DEFAULT_CONTEXT = 1024

SUFFIXES = (".wav", ".flac", ".ogg", ".aif", ".aiff")

_RIGHT = "save it as a PCM WAV of 8 or 16 bits, mono or stereo"
# Sample width in bytes -> dtype, what silence is, and full scale: 8-bit WAV is unsigned.
_WIDTHS = {1: ("u1", 128, 128.0), 2: ("<i2", 0, 32768.0)}

Recording = UInt8[np.ndarray, " _samples"]


def load(request: Request) -> Dataset:
  """Windows "x" [N, context] of mu-law levels with "length" [N]; `Dataset.sample_rate` in samples per second.

  Raise DataError for a missing or damaged file, one of another format (naming it), recordings of different rates, and
  too few samples or files.
  """
  context = request.integer("context", DEFAULT_CONTEXT, minimum=1)
  by = request.choice("split", ("time", "files"), "time")
  path = pathlib.Path(request.argument)
  files = _files(path)
  read = [read_sound(file) for file in files]
  rate = read[0][1]
  for file, (_, other) in zip(files, read, strict=True):
    if other != rate:
      raise DataError(f"sound file {file} has {other} samples per second, but {files[0]} has {rate}; resample one of "
                      "them.")
  recordings = [mu_law_encode(samples) for samples, _ in read]
  pieces = _by_time(recordings) if by == "time" else _by_files(recordings, path)
  counts = {name: sum(map(len, pieces[name])) for name in SPLITS}
  if counts["train"] < context or not min(counts.values()):
    raise DataError(f"wav:{path} is too short: its splits have {counts} samples; training needs at least "
                    f"context={context}, the others one.")
  splits = {name: MemorySplit(cut(pieces[name], context)) for name in SPLITS}
  moves = (at_random_offsets(pieces["train"], context, request.seed),)
  splits["train"] = MemorySplit(splits["train"], splits["train"], moves)
  info = {"source": str(path), "files": len(files), "sample_rate": rate, "samples": counts, "split": by,
          "context": context}
  return Dataset(f"wav:{path.stem}" + ("#split=files" if by == "files" else ""),
                 DataSpec(event=(context,), levels=LEVELS, has_lengths=True), splits, info, sample_rate=rate)


def read_sound(path: pathlib.Path) -> tuple[Float[np.ndarray, " samples"], int]:
  """Return samples in [-1, 1] and how many there are per second.

  Raise DataError naming the file and what would be right, ConfigError where its kind needs an extra.
  """
  try:
    with wave.open(str(path), "rb") as file:
      rate, width, channels, num = (file.getframerate(), file.getsampwidth(), file.getnchannels(), file.getnframes())
      data = file.readframes(num)
  except (wave.Error, EOFError) as error:
    return _read_by_library(path, str(error) or "it ends within its header")
  if width not in _WIDTHS:
    return _read_by_library(path, f"{8 * width} bits")
  _check_form(path, rate, channels)
  if len(data) != num * width * channels or not num:
    raise DataError(f"WAV file {path} is truncated or empty: it holds {len(data)} bytes of sound, and its header "
                    f"promises {num * width * channels}; {_RIGHT}.")
  dtype, silence, scale = _WIDTHS[width]
  samples = (np.frombuffer(data, dtype).astype(np.float32) - silence) / np.float32(scale)
  return samples.reshape(-1, channels).mean(axis=1), rate


def _read_by_library(path: pathlib.Path, reason: str) -> tuple[Float[np.ndarray, " samples"], int]:
  """Return what `read_sound` does, of a file that is no PCM WAV of 8 or 16 bits, for this reason."""
  soundfile: Any = load_extra("soundfile", "sound", f"{path} is no PCM WAV of 8 or 16 bits ({reason}), which")
  try:
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
  except soundfile.SoundFileError as error:
    raise DataError(f"{path} is no PCM WAV file ({reason}) and no sound file of another kind that can be read "
                    f"({error}); {_RIGHT}.") from error
  _check_form(path, rate, samples.shape[1])
  if not len(samples):
    raise DataError(f"sound file {path} is empty; {_RIGHT}.")
  largest = float(np.abs(samples).max())
  if not largest <= 1.0:
    raise DataError(f"sound file {path} has a sample of magnitude {largest:g}; full scale is 1: make it quieter.")
  return samples.mean(axis=1), rate


def _check_form(path: pathlib.Path, rate: int, channels: int) -> None:
  if rate < 1:
    raise DataError(f"WAV file {path} has a rate of {rate} samples per second; it must be at least 1: {_RIGHT}.")
  if channels not in (1, 2):
    raise DataError(f"sound file {path} has {channels} channels; {_RIGHT}.")


def write_wav(path: pathlib.Path, samples: Float[np.ndarray, " samples"], rate: int) -> None:
  """Write samples in [-1, 1] as 16-bit mono PCM."""
  with wave.open(str(path), "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes(np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  if path.is_file():
    return [path]
  if not path.is_dir():
    raise DataError(f"sound file or folder {str(path)!r} does not exist; name it by data.path or wav:<path>.")
  files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
  if not files:
    raise DataError(f"folder {path} holds no sound; name one with files that end in {', '.join(SUFFIXES)}.")
  return files


def _by_time(recordings: list[Recording]) -> dict[str, list[Recording]]:
  cuts = [(len(recording) * 8 // 10, len(recording) * 9 // 10) for recording in recordings]
  parts = [np.split(recording, at) for recording, at in zip(recordings, cuts, strict=True)]
  return {name: [part[i] for part in parts] for i, name in enumerate(SPLITS)}


def _by_files(recordings: list[Recording], path: pathlib.Path) -> dict[str, list[Recording]]:
  if len(recordings) < 3:
    raise DataError(f"wav:{path} has {len(recordings)} file(s), but split=files needs at least 3; take split=time.")
  held = max(1, len(recordings) // 10)
  return {"train": recordings[:-2 * held], "valid": recordings[-2 * held:-held], "test": recordings[-held:]}
