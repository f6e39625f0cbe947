"""Transforms of sound in 8-bit mu-law: sounds of one length, and their spectrograms."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gdm.data.dataset import Dataset
from gdm.data.mu_law import LEVELS, mu_law_encode
from gdm.data.spectrogram import LEVELS as IMAGE_LEVELS
from gdm.data.spectrogram import Spectrogram, heard
from gdm.data.split import Rows
from gdm.errors import SpecError

SILENCE = int(mu_law_encode(np.zeros(1))[0])


def clip(dataset: Dataset, argument: int, seed: int, facts: Mapping[str, Any] | None) -> Dataset:
  """Make all sounds `argument` samples long: longer ones end there, shorter ones are followed by silence, which counts
  as data from then on.

  Raise SpecError for data that are no sound.
  """
  del seed
  rate = _rate(dataset, "clip", facts)
  steps = np.arange(argument)

  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    del examples, epoch
    x = rows["x"][:, :argument]
    x = np.pad(x, ((0, 0), (0, argument - x.shape[1])))
    length = rows.get("length", np.full(len(x), rows["x"].shape[1]))
    x = np.where(steps < np.asarray(length)[:, None], x, SILENCE).astype(np.uint8)
    return {**{name: array for name, array in rows.items() if name != "length"}, "x": x}

  spec = dataclasses.replace(dataset.spec, event=(argument,), has_lengths=False)
  return dataset.map(op, spec=spec, sample_rate=rate, info={**dataset.info, "clip": {"rate": rate}})


def spectrogram(dataset: Dataset, argument: int, seed: int, facts: Mapping[str, Any] | None) -> Dataset:
  """Return the spectrograms of sounds, in `argument` bands; see `gdm.data.spectrogram`.

  Raise SpecError for data that are no sound, or of several lengths; ConfigError for a length or a number of bands that
  does not fit.
  """
  del seed
  rate = _rate(dataset, "spectrogram", facts)
  if dataset.spec.has_lengths:
    raise SpecError(f"spectrogram needs sounds of one length, but those of {dataset.name} have several; add the "
                    "transform clip:5120, say, before it.")
  form = Spectrogram(argument, dataset.spec.num_dims, rate)

  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    del examples, epoch
    return {**rows, "x": heard(rows["x"], form)}

  spec = dataclasses.replace(dataset.spec, event=form.event, levels=IMAGE_LEVELS)
  return dataset.map(op, spec=spec, info={**dataset.info, "spectrogram": dataclasses.asdict(form)})


def _rate(dataset: Dataset, who: str, facts: Mapping[str, Any] | None) -> int:
  """Return the samples per second. Raise SpecError for data that are no sound."""
  recorded = (facts or {}).get("spectrogram") or (facts or {}).get("clip") or {}
  rate = dataset.sample_rate or recorded.get("rate")
  if rate is None or dataset.spec.levels != LEVELS or len(dataset.spec.event) != 1:
    raise SpecError(f"{who} needs sound in 8-bit mu-law, but {dataset.name} has examples of shape {dataset.spec.event} "
                    "and no samples per second; leave it out, or name them after the path: #rate=8000.")
  return int(rate)
