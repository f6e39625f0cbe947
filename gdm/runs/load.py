"""A trained run opened again: from its workdir, with the parameters of one checkpoint, or from an exported file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections

from gdm.data.dataset import Dataset
from gdm.data.description import Description
from gdm.errors import CheckpointError
from gdm.model import Carry, Model, Params
from gdm.runs.exported import read_export
from gdm.runs.recorded import built, load_data, read_again, require_same_data, shapes_of, with_overrides
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import Workdir, read_json
from gdm.storage import Store, is_url, local_copy, parse_url
from gdm.training import checkpoint, hosts
from gdm.training.state import averages_of

_ATTEMPTS = 5  # at reading a checkpoint of a run under way


def open_run(path: str | os.PathLike, overrides: Mapping[str, Any] | None = None, which: str = "best") -> TrainedRun:
  """Open a trained run.

  Args:
    path: its workdir, or a file that `experiments.export` wrote; a path or a URL.
    overrides: dotted config fields to change: of evaluation, sampling, or where data lie.
    which: of a workdir, "best" by validation ("last" where there is no best), "last", or a step.

  Raises:
    WorkdirError: there is no run.
    CheckpointError: its weights are missing, damaged, or of a newer version.
    ConfigError: an override that cannot be used.

  Example:

    run = gdm.load("runs/made")
    print(run.log_likelihood(run.sample(100)).bits_per_dim)
  """
  if is_url(path) and not Store(parse_url(path, "the run")).is_object():
    return load_run(Workdir(os.fspath(path)), overrides or {}, which)
  place = local_copy(path, "the run")
  if place.is_file():
    return read_export(place, overrides or {}, which)
  return load_run(Workdir(place), overrides or {}, which)


def load_run(workdir: Workdir, overrides: Mapping[str, Any], which: str = "best",
             dataset: Dataset | None = None) -> TrainedRun:
  """Open the run in a workdir; see `open_run`.

  Args:
    workdir: the run's workdir.
    overrides: dotted config fields to change.
    which: the checkpoint.
    dataset: its data, where they are loaded already.
  """
  recorded = workdir.read_config()
  with_overrides(recorded, overrides)  # says what is wrong before checkpoints are looked at
  for attempt in range(1, _ATTEMPTS + 1):
    if dataset is None:  # else it is the run of this process, whose copy is newer than its bucket
      _fetch_checkpoint(workdir, which)
    place, step = hosts.from_first(lambda: choose_checkpoint(workdir, which))
    workdir.fetch_step(place, step)
    directory = workdir.path / place
    try:
      return _read_checkpoint(workdir, recorded, overrides, dataset, directory, step)
    except (CheckpointError, FileNotFoundError):
      # A run under way deletes its older checkpoints, this one perhaps since it was chosen.
      if (directory / str(step)).exists() or attempt == _ATTEMPTS:
        raise
  raise AssertionError("unreachable")


def _fetch_checkpoint(workdir: Workdir, which: str) -> None:
  """Fetch the checkpoint that --checkpoint names, where the workdir is in a bucket."""
  if workdir.mirror is None:
    return
  def is_good(folder: Path) -> bool:
    return checkpoint.find_fault(folder) is None

  for place in (workdir.best.name, workdir.checkpoints.name):
    if which.isdigit():
      if int(which) in workdir.mirror.steps(place):
        workdir.mirror.fetch_step(place, int(which))
    elif (place == workdir.checkpoints.name or which == "best") and workdir.mirror.fetch_newest(place, is_good):
      return


def _read_checkpoint(workdir: Workdir, recorded: ml_collections.ConfigDict, overrides: Mapping[str, Any],
                     dataset: Dataset | None, directory: Path, step: int) -> TrainedRun:
  meta, config = checkpoint.read_meta(directory, step), with_overrides(recorded, overrides)
  if dataset is not None or "data" not in meta:  # older checkpoints do not describe theirs
    dataset = dataset or load_data(config)
    require_same_data(workdir.path, dataset, meta["data_identity"])
    data = Description.of(dataset)
  else:
    data = Description.from_json(meta["data"])
  config, model = built(workdir.config, config, overrides, data)
  kept = "ema" if meta["has_ema"] else "live"
  chosen = kept if config.evaluation.parameters == "auto" else config.evaluation.parameters
  params, carry = restore_parameters(model, data, directory, step, ema=chosen == "ema")
  read_data = (lambda: read_again(workdir.path, config, overrides, data)) if dataset is None else (lambda: dataset)
  return TrainedRun(config, data, model, params, carry, step, chosen, meta["train_seconds"], workdir.path,
                    recorded.evaluation.likelihood, read_reports(workdir.path), read_data)


def read_reports(folder: Path) -> dict[str, Any]:
  """Return the reports of `evaluate` in a workdir, by their names without the ending."""
  paths = sorted([*folder.glob("likelihood_*.json"), *folder.glob("labels_*.json")])
  return {path.stem: read_json(path) for path in paths}


def choose_checkpoint(workdir: Workdir, which: str) -> tuple[str, int]:
  """Return the folder's name and the step of the checkpoint that --checkpoint names."""
  if which == "best" and (step := checkpoint.newest_good_step(workdir.best)) is not None:
    return workdir.best.name, step
  if which in ("best", "last"):
    if (step := checkpoint.newest_good_step(workdir.checkpoints)) is not None:
      return workdir.checkpoints.name, step
    raise CheckpointError(f"workdir {workdir.name} has no whole checkpoint.")
  for directory in (workdir.checkpoints, workdir.best):
    if which.isdigit() and int(which) in checkpoint.list_steps(directory):
      checkpoint.require_whole(directory, int(which))
      return directory.name, int(which)
  known = sorted({*checkpoint.list_steps(workdir.checkpoints), *checkpoint.list_steps(workdir.best)})
  raise CheckpointError(f"--checkpoint is {which!r}; it must be best, last, or one of the steps {known}.")


def restore_parameters(model: Model, data: Description, directory: Path, step: int, ema: bool) -> tuple[Params, Carry]:
  """Parameters and carry of a checkpoint, live or averaged, without its optimizer state."""
  params, carry = shapes_of(model, data)
  averaged = averages_of(params, carry)
  like = {"carry": carry, **({"ema": averaged} if ema else {"params": params})}
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like)
  state = checkpoint.restore(directory, step, like, partial=True).state
  if not ema:
    return state["params"], state["carry"]
  return state["ema"]["params"], {**state["carry"], **state["ema"]["carry"]}
