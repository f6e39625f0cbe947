"""A trained run read back from its workdir: config, data, model, and the parameters of one checkpoint."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections

from gdm.data.dataset import Dataset
from gdm.data.load import load_dataset
from gdm.errors import CheckpointError, ConfigError, SpecError, WorkdirError
from gdm.model import Carry, Model, Params
from gdm.runs.registry import build_model
from gdm.runs.scoring import scored_by
from gdm.runs.settings import check_settings
from gdm.runs.sizes import keep_settings, sized
from gdm.runs.workdir import Workdir
from gdm.training import checkpoint, hosts
from gdm.training.state import averages_of

_ATTEMPTS = 5  # at reading a checkpoint of a run under way


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """A run read back from its workdir: enough to evaluate and sample."""

  config: ml_collections.ConfigDict
  dataset: Dataset
  model: Model
  params: Params
  carry: Carry
  step: int
  parameters: str
  train_seconds: float


def load_run(workdir: Workdir, overrides: Mapping[str, Any], which: str = "best",
             dataset: Dataset | None = None) -> TrainedRun:
  """Read a run's config, data, and one of its checkpoints.

  Args:
    workdir: the run's workdir.
    overrides: dotted config fields to change: of evaluation, sampling, or where the data lies.
    which: "best" by validation ("last" where there is no best), "last", or a step.
    dataset: its data, where they are loaded already.
  """
  config = workdir.read_config()
  config.update_from_flattened_dict(overrides)
  check_settings(config)
  dataset = dataset or load_data(config)
  config = sized(keep_settings(config, overrides), dataset.num_examples("train"))
  model = scored_by(_recorded_model(workdir, config, dataset), config.evaluation.likelihood)
  for attempt in range(1, _ATTEMPTS + 1):
    place, step = hosts.from_first(lambda: choose_checkpoint(workdir, which))
    directory = workdir.path / place
    try:
      return _read_checkpoint(workdir, config, dataset, model, directory, step)
    except (CheckpointError, FileNotFoundError):
      # A run under way deletes its older checkpoints, this one perhaps since it was chosen.
      if (directory / str(step)).exists() or attempt == _ATTEMPTS:
        raise
  raise AssertionError("unreachable")


def _read_checkpoint(workdir: Workdir, config: ml_collections.ConfigDict, dataset: Dataset, model: Model,
                     directory: Path, step: int) -> TrainedRun:
  meta = checkpoint.read_meta(directory, step)
  require_same_data(workdir, dataset, meta)
  kept = "ema" if meta["has_ema"] else "live"
  chosen = kept if config.evaluation.parameters == "auto" else config.evaluation.parameters
  params, carry = restore_parameters(model, dataset, directory, step, ema=chosen == "ema")
  return TrainedRun(config, dataset, model, params, carry, step, chosen, meta["train_seconds"])


def _recorded_model(workdir: Workdir, config: ml_collections.ConfigDict, dataset: Dataset) -> Model:
  """Return the model of a recorded config, which this version of the code may know no more."""
  try:
    return build_model(config.model.to_dict(), dataset.spec)
  except (ConfigError, SpecError) as error:
    raise WorkdirError(f"the model recorded in {workdir.config} cannot be built by this version of the code: "
                       f"{error}") from error


def load_data(config: ml_collections.ConfigDict) -> Dataset:
  """Return the dataset of the config's `data` section."""
  data = config.data
  return load_dataset(data.name, path=data.path, data_dir=data.data_dir, transforms=data.transforms, seed=config.seed)


def require_same_data(workdir: Workdir, dataset: Dataset, meta: Mapping[str, Any],
                      parts: Sequence[str] = ("train", "vocabulary")) -> None:
  """Raise a WorkdirError unless these parts of the data are those that the checkpoint was trained with.

  Args:
    workdir: the run's.
    dataset: the data now.
    meta: of the checkpoint; its "data_identity" is `Dataset.identity` as it was then.
    parts: names of splits, or "vocabulary": what a trained run depends on, or to go on with training all of it.
  """
  now, then = dataset.identity, meta["data_identity"]
  then = {"train": then} if isinstance(then, str) else then  # all that older checkpoints know
  for part in parts:
    if part in then and now.get(part) != then[part]:
      what = "vocabulary" if part == "vocabulary" else f"{part} split"
      raise WorkdirError(f"the {what} is {now.get(part)} (its fingerprint), but {workdir.path} was trained with "
                         f"{then[part]}; restore that data, or name another workdir.")


def choose_checkpoint(workdir: Workdir, which: str) -> tuple[str, int]:
  """Return the folder's name and the step of the checkpoint that --checkpoint names."""
  if which == "best" and (step := checkpoint.newest_good_step(workdir.best)) is not None:
    return workdir.best.name, step
  if which in ("best", "last"):
    if (step := checkpoint.newest_good_step(workdir.checkpoints)) is not None:
      return workdir.checkpoints.name, step
    raise CheckpointError(f"workdir {workdir.path} has no whole checkpoint.")
  for directory in (workdir.checkpoints, workdir.best):
    if which.isdigit() and int(which) in checkpoint.list_steps(directory):
      checkpoint.require_whole(directory, int(which))
      return directory.name, int(which)
  known = sorted({*checkpoint.list_steps(workdir.checkpoints), *checkpoint.list_steps(workdir.best)})
  raise CheckpointError(f"--checkpoint is {which!r}; it must be best, last, or one of the steps {known}.")


def restore_parameters(model: Model, dataset: Dataset, directory: Path, step: int, ema: bool) -> tuple[Params, Carry]:
  """Parameters and carry of a checkpoint, live or averaged, without its optimizer state."""
  example = dataset.split("train").rows(slice(0, 2))  # normalizations want two
  params, carry = jax.eval_shape(model.init, jax.random.key(0), example)
  averaged = averages_of(params, carry)
  like = {"carry": carry, **({"ema": averaged} if ema else {"params": params})}
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like)
  state = checkpoint.restore(directory, step, like, partial=True).state
  if not ema:
    return state["params"], state["carry"]
  return state["ema"]["params"], {**state["carry"], **state["ema"]["carry"]}
