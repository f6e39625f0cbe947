"""What a run recorded of its config and data, made a model and data again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections

from gdm.data.dataset import Dataset
from gdm.data.description import Description
from gdm.data.load import load_dataset, load_like, says_where
from gdm.errors import ConfigError, SpecError, WorkdirError, nearest
from gdm.model import Carry, Model, Params
from gdm.runs.registry import build_model
from gdm.runs.scoring import scored_by
from gdm.runs.settings import check_settings, flatten_fields
from gdm.runs.sizes import keep_settings, sized


def with_overrides(config: ml_collections.ConfigDict, overrides: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Return a recorded config with dotted fields changed. Raise ConfigError for one that it lacks or cannot take."""
  if "data.transforms" in overrides:
    raise ConfigError("data.transforms belongs to a run's training; other data get the run's own, so leave it out.")
  known = flatten_fields(config.to_dict())
  for name in overrides:
    if name not in known:
      raise ConfigError(f"overrides has {name!r}, which no run has; {nearest(name, known)}")
  if "data.name" in overrides and "data.path" not in overrides and says_where(str(overrides["data.name"])):
    overrides = {**overrides, "data.path": ""}  # the recorded one is of the data that the run was trained with
  changed = config.copy_and_resolve_references()
  try:
    changed.update_from_flattened_dict(dict(overrides))
  except (TypeError, ValueError) as error:
    raise ConfigError(f"overrides: {error}.") from error
  check_settings(changed)
  return changed


def built(place: Path, config: ml_collections.ConfigDict, overrides: Mapping[str, Any],
          data: Description) -> tuple[ml_collections.ConfigDict, Model]:
  """Return the config for the size of its training data, and its model.

  Args:
    place: of the config, for an error.
    config: the recorded one.
    overrides: dotted fields that were changed.
    data: what the model was trained with.

  Raise WorkdirError where this version of the code knows the model no more.
  """
  config = sized(keep_settings(config, overrides), data.sizes["train"])
  try:
    model = build_model(config.model.to_dict(), data.spec)
  except (ConfigError, SpecError) as error:
    raise WorkdirError(f"the model recorded in {place} cannot be built by this version of the code: "
                       f"{error}") from error
  return config, scored_by(model, config.evaluation.likelihood)


def shapes_of(model: Model, data: Description) -> tuple[Params, Carry]:
  """Return the shapes of a model's parameters and carry; nothing is computed."""
  return jax.eval_shape(model.init, jax.random.key(0), data.shapes(2))  # normalizations want two


def load_data(config: ml_collections.ConfigDict) -> Dataset:
  """Return the dataset of the config's `data` section."""
  data = config.data
  return load_dataset(data.name, path=data.path, data_dir=data.data_dir, transforms=data.transforms, seed=config.seed)


def read_again(place: Path, config: ml_collections.ConfigDict, overrides: Mapping[str, Any],
               data: Description) -> Dataset:
  """Return a run's data, or where the overrides name others, these as the model was trained to see data.

  Raises:
    WorkdirError: the run's own data are no longer what they were.
    DataError: data that are missing, damaged, or of another kind.
  """
  section = config.data
  if {"data.name", "data.path"} & overrides.keys():
    return load_like(data, section.name, path=section.path, data_dir=section.data_dir, seed=config.seed)
  dataset = load_data(config)
  require_same_data(place, dataset, data.identity)
  return dataset


def require_same_data(place: Path, dataset: Dataset, then: Mapping[str, str] | str,
                      parts: Sequence[str] = ("train", "vocabulary")) -> None:
  """Raise a WorkdirError unless these parts of the data are those that a run was trained with.

  Args:
    place: of the run.
    dataset: the data now.
    then: `Dataset.identity` as it was when the run was saved.
    parts: names of splits, or "vocabulary": what a trained run depends on, or to go on with training all of it.
  """
  now = dataset.identity
  then = {"train": then} if isinstance(then, str) else then  # all that older checkpoints know
  for part in parts:
    if part in then and now.get(part) != then[part]:
      what = "vocabulary" if part == "vocabulary" else f"{part} split"
      raise WorkdirError(f"the {what} is {now.get(part)} (its fingerprint), but {place} was trained with "
                         f"{then[part]}; restore that data, or name another workdir.")
