"""Sound: `wav:<path>`, a WAV file or a folder of them, and after "#", joined by "&":

  context=1024            samples of an example
  split=time | files      time: of every recording the first 80 % train, the next 10 % validate, the last 10 % test.
                          files: of the files, in the order of their names, the last tenth (at least one) tests, the
                          tenth before it validates, the others train

PCM with 8 or 16 bits, at the rate it has; of stereo the mean of both channels. Each sample becomes one of 256 levels by
mu-law (gdm/data/mu_law.py). Windows as of text: evaluation hears every sample once, training windows at random offsets.
"""

import pathlib
import wave

import numpy as np
from jaxtyping import Float, UInt8

from gdm.data.dataset import SPLITS, Dataset
from gdm.data.mu_law import LEVELS, mu_law_encode
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.data.windows import at_random_offsets, cut
from gdm.dataspec import DataSpec
from gdm.errors import DataError

OPTIONS = ("context", "split")
DEFAULT_CONTEXT = 1024

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
  read = [read_wav(file) for file in files]
  rate = read[0][1]
  for file, (_, other) in zip(files, read, strict=True):
    if other != rate:
      raise DataError(f"WAV file {file} has {other} samples per second, but {files[0]} has {rate}; resample one of "
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


def read_wav(path: pathlib.Path) -> tuple[Float[np.ndarray, " samples"], int]:
  """Sample in [-1, 1) and how many there are per second. Raise DataError naming the file and what would be right."""
  try:
    with wave.open(str(path), "rb") as file:
      rate, width, channels, num = (file.getframerate(), file.getsampwidth(), file.getnchannels(), file.getnframes())
      data = file.readframes(num)
  except (wave.Error, EOFError) as error:
    reason = str(error) or "it ends within its header"
    raise DataError(f"{path} is no PCM WAV file that can be read ({reason}); {_RIGHT}.") from error
  if rate < 1:
    raise DataError(f"WAV file {path} has a rate of {rate} samples per second; it must be at least 1: {_RIGHT}.")
  if width not in _WIDTHS or channels not in (1, 2):
    raise DataError(f"WAV file {path} has {8 * width} bits and {channels} channel(s); {_RIGHT}.")
  if len(data) != num * width * channels or not num:
    raise DataError(f"WAV file {path} is truncated or empty: it holds {len(data)} bytes of sound, and its header "
                    f"promises {num * width * channels}; {_RIGHT}.")
  dtype, silence, scale = _WIDTHS[width]
  samples = (np.frombuffer(data, dtype).astype(np.float32) - silence) / np.float32(scale)
  return samples.reshape(-1, channels).mean(axis=1), rate


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
    raise DataError(f"WAV file or folder {str(path)!r} does not exist; name it by data.path or wav:<path>.")
  files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".wav" and file.is_file())
  if not files:
    raise DataError(f"folder {path} holds no WAV files; name a folder with files that end in .wav.")
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
