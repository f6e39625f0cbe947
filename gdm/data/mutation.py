"""Mutated data: some values replaced by random levels, for background models (Ren et al., arXiv:1906.02845, section 3).

A model of mutated data knows what single values are like and less of how they go together. The ratio of a model's
likelihood to that of such a background is about the latter, which is what tells data of one kind from another.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gdm.data import draws
from gdm.data.dataset import Dataset
from gdm.data.split import Rows
from gdm.errors import ConfigError

SEED = 20260605  # of what validation and test serve


def mutate(dataset: Dataset, argument: int, seed: int, facts: Mapping[str, Any] | None) -> Dataset:
  """Replace each value with a probability of `argument` per cent by a level drawn uniformly; training in every epoch
  anew, validation and test once. Raise ConfigError above 100 per cent, SpecError for real numbers."""
  del facts
  levels = dataset.spec.require_discrete("mutate")
  if argument > 100:
    raise ConfigError(f"data.transforms: mutate:{argument} replaces {argument} per cent of values; it must be "
                      "1 to 100.")
  splits = {}
  for name in dataset.splits:
    anew = name == "train"
    own = draws.named(seed if anew else SEED, f"mutate/{name}")
    splits[name] = dataset.split(name).map(_mutated(own, levels, argument / 100.0, anew), anew)
  return dataclasses.replace(dataset, splits=splits, spec=dataclasses.replace(dataset.spec, blocks=()), log_prob=None)


def _mutated(seed: int, levels: int, rate: float, fresh: bool):
  def op(rows: Rows, examples: np.ndarray, epoch: int) -> Rows:
    x = rows["x"]
    picks, values = np.split(draws.uniforms(seed, epoch if fresh else 0, examples, 2 * x[0].size), 2, axis=1)
    drawn = np.floor(values * levels).astype(x.dtype).reshape(x.shape)
    return {**rows, "x": np.where(picks.reshape(x.shape) < rate, drawn, x)}
  return op
