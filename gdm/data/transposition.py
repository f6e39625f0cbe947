"""Transposition of music in training: a piece is played some semitones higher or lower, anew in every epoch.

A chorale in another key is as good a chorale, so that a model sees more music. Only what training draws is moved;
validation, test, and the training split as it is scored stay as they are.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gdm.data import draws
from gdm.data.dataset import Dataset
from gdm.data.split import MemorySplit, Rows
from gdm.errors import SpecError


def transpose(dataset: Dataset, argument: int, seed: int, facts: Mapping[str, Any] | None) -> Dataset:
  """Move each training example by a number of semitones from -argument to argument, each as likely.

  Data: piano rolls, [steps, pitches] of zeros and ones, or voices, [steps, voices] of pitches, where 0 is a rest. A
  move that would take a note outside the pitches of the training split is made smaller, so that none is lost.

  Raise SpecError for data of another kind, or on disk.
  """
  del facts
  spec = dataset.spec
  if len(spec.event) != 2 or spec.levels is None:
    raise SpecError(f"transpose needs piano rolls [steps, pitches] or voices [steps, voices], but the examples of "
                    f"{dataset.name} have shape {spec.event} and {spec.levels} levels; leave it out.")
  if "train" not in dataset.splits:
    return dataset
  train = dataset.split("train")
  if not isinstance(train, MemorySplit):
    raise SpecError(f"transpose needs data in memory, but {dataset.name} is on disk; leave it out.")
  x, is_roll = train["x"], spec.levels == 2
  sounding = np.flatnonzero(x.any(axis=(0, 1))) if is_roll else np.unique(x[x > 0])
  if not len(sounding):
    return dataset
  ends = int(sounding[0]), int(sounding[-1])
  move = _rolls if is_roll else _voices
  own = draws.named(seed, "transpose")

  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    u = draws.uniforms(own, epoch, examples, 1)[:, 0]
    shifts = np.floor(u * (2 * argument + 1)).astype(np.int64) - argument
    return {**rows, "x": np.stack([move(x, int(shift), *ends) for x, shift in zip(rows["x"], shifts, strict=True)])}

  return dataclasses.replace(dataset, splits={**dataset.splits, "train": train.augmented(op)}, log_prob=None)


def _rolls(x: np.ndarray, shift: int, low: int, high: int) -> np.ndarray:
  pitches = np.flatnonzero(x.any(axis=0))
  return np.roll(x, _fitting(shift, pitches, low, high), axis=1) if len(pitches) else x


def _voices(x: np.ndarray, shift: int, low: int, high: int) -> np.ndarray:
  pitches = x[x > 0]
  if not len(pitches):
    return x
  return np.where(x > 0, x.astype(np.int64) + _fitting(shift, pitches, low, high), 0).astype(x.dtype)


def _fitting(shift: int, pitches: np.ndarray, low: int, high: int) -> int:
  """Return the shift, or the nearest one to it that keeps all pitches within the ends."""
  return int(np.clip(shift, min(low - int(pitches.min()), 0), max(high - int(pitches.max()), 0)))
