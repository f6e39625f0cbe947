"""Sound of a trained run: as WAV files, and as another run hears it."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from gdm.data.description import Description
from gdm.data.mu_law import LEVELS, mu_law_decode, mu_law_encode
from gdm.data.sources.audio import write_wav
from gdm.data.spectrogram import Spectrogram, heard
from gdm.runs.trained import TrainedRun

Examples = Num[np.ndarray, "num ..."]


def rate_of(data: Description) -> int | None:
  """Return the samples per second of data that are sound or spectrograms of it; None of others."""
  found = Spectrogram.of(data.info)
  return data.sample_rate if found is None else found.rate


def waves_of(data: Description, x: Examples) -> Float[np.ndarray, "num samples"]:
  """Return examples as sounds in [-1, 1], of data that have a `rate_of`; of spectrograms an estimate, see
  `Spectrogram.decode`."""
  found = Spectrogram.of(data.info)
  if found is None:
    return mu_law_decode(x)
  return found.decode(np.clip(np.rint(x), 0, LEVELS - 1).astype(np.int64))


def save_sound(run: TrainedRun, name: str, x: Examples) -> list[Path]:
  """Write examples as `<name>_000.wav` and so on into the run's folder; return the paths. Other data write nothing."""
  rate = rate_of(run.data)
  if rate is None:
    return []
  paths = [run.folder / f"{name}_{number:03}.wav" for number in range(len(x))]
  for path, wave in zip(paths, waves_of(run.data, x), strict=True):
    write_wav(path, wave, rate)
  return paths


def can_hear(listener: Description, data: Description) -> bool:
  """Return whether the sound of data is what a listener to spectrograms, or to sound, takes: of its length and rate."""
  if rate_of(data) is None or rate_of(data) != rate_of(listener):
    return False
  return _samples(listener) == _samples(data)


def as_heard(listener: Description, data: Description, x: Examples) -> Examples:
  """Return examples as the data of a listener, by way of the sound that they are: of a spectrogram, of the sound that
  was made of it. See `can_hear`."""
  levels = x if Spectrogram.of(data.info) is None else mu_law_encode(waves_of(data, x))
  form = Spectrogram.of(listener.info)
  return levels if form is None else heard(np.asarray(levels), form)


def _samples(data: Description) -> int:
  found = Spectrogram.of(data.info)
  return data.spec.num_dims if found is None else found.samples
