"""Finished runs made into one model: reading them, checking that they go together, and a workdir of the result."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from gdm.data.dataset import Dataset
from gdm.data.split import Split, chunks
from gdm.errors import ConfigError, WorkdirError
from gdm.mesh import make_mesh
from gdm.model import Carry, HasSample, Model, Params
from gdm.runs import defaults
from gdm.runs.load import load_run
from gdm.runs.recorded import load_data
from gdm.runs.run import Run
from gdm.runs.sampling import options_taken
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import Workdir, write_json
from gdm.training import checkpoint
from gdm.training.state import TrainState

MEANT_FOR_ALL = ("num", "seed")  # fields of the sampling section that are no options of a model
SOURCE = ("name", "path", "data_dir", "transforms")  # fields of the data section that decide what the examples are


def load_runs(paths: Sequence[str]) -> list[TrainedRun]:
  """Read finished runs, in order; those on data from the same source share them.

  Raises:
    WorkdirError: a run is not finished.
    And what `load_run` raises.
  """
  for path in paths:
    workdir = Workdir(path)
    workdir.read_config()  # says what is wrong with a folder that is no workdir
    if workdir.finished_step() is None:
      raise WorkdirError(f"{path} is not finished; the command that trains it goes on where it stopped.")
  runs, loaded = [], {}
  for path in paths:
    config = Workdir(path).read_config()
    # What training sees anew in every epoch depends on the seed.
    source = (config.seed, *(config.data[field] for field in SOURCE))
    runs.append(load_run(Workdir(path), {}, dataset=loaded.get(source)))
    loaded[source] = runs[-1].dataset
  return runs


def require_free(workdir: Workdir, name: str, paths: Sequence[str]) -> None:
  """Check, before anything is scored, that a workdir may become that of a model called `name`.

  Raises:
    ConfigError: it is one of the runs.
    WorkdirError: it holds something else.
  """
  if workdir.path.resolve() in {Path(path).resolve() for path in paths}:
    raise ConfigError(f"--workdir is {workdir.path}, which is one of the runs; name another folder.")
  if workdir.config.exists():
    there = workdir.read_config().model.name
    if there != name:
      raise WorkdirError(f"workdir {workdir.path} belongs to a run of {there}; name another folder.")
  elif workdir.path.exists() and (not workdir.path.is_dir() or any(workdir.path.iterdir())):
    raise WorkdirError(f"{workdir.path} exists and is no workdir; name an empty folder or a new one.")


def require_same_spec(paths: Sequence[str], runs: Sequence[TrainedRun]) -> None:
  """Raise ConfigError, naming the fields that differ, unless the examples of all runs are of one kind."""
  first, *others = (run.dataset for run in runs)
  for path, dataset in zip(paths[1:], others, strict=True):
    ours, theirs = (dataclasses.asdict(each.spec) for each in (dataset, first))
    differ = [f"{field} is {ours[field]}, there {theirs[field]}" for field in ours if ours[field] != theirs[field]]
    if differ:
      raise ConfigError(f"{path} is on {dataset.name}, {paths[0]} on {first.name}, and their examples are of two kinds "
                        f"(spec.{'; spec.'.join(differ)}); runs made into one share their data's spec.")


def require_same_data(paths: Sequence[str], runs: Sequence[TrainedRun]) -> None:
  """Check that all runs are on the same examples in every split, whatever their files are called.

  Raises:
    ConfigError: the examples of a split, or the tokens that they stand for, differ; says where.
  """
  require_same_spec(paths, runs)
  for path, run in zip(paths[1:], runs[1:], strict=True):
    if _source(run) != _source(runs[0]):
      _require_same_splits(path, run, paths[0], runs[0])


def _require_same_splits(path: str, run: TrainedRun, first_path: str, first: TrainedRun) -> None:
  # As with the first run's seed, on which the first epoch of freshly drawn training data depends.
  ours = run.dataset if run.config.seed == first.config.seed else load_data(
      ml_collections.ConfigDict({**run.config.to_dict(), "seed": first.config.seed}))
  theirs, names = first.dataset, f"{path} is on {run.data.name}, {first_path} on {first.dataset.name}"
  remedy = "an ensemble is of runs on the same data, split in the same way."
  for split in sorted({*ours.splits} ^ {*theirs.splits}):
    raise ConfigError(f"{names}, and only one of them has a split {split!r}; {remedy}")
  if ours.tokenizer != theirs.tokenizer:
    raise ConfigError(f"{names}, and their vocabularies differ; {remedy}")
  differ = [split for split in ours.splits if ours.fingerprint(split) != theirs.fingerprint(split)]
  if not differ:
    return
  prints = ", ".join(f"{split} {ours.fingerprint(split)}, there {theirs.fingerprint(split)}" for split in differ)
  seen = "".join(f"; {leaks} of the {num} {split} examples of {of} are in the training split of {by}"
                 for trained, by, held, of in ((ours, path, theirs, first_path), (theirs, first_path, ours, path))
                 for split, leaks, num in _leaks(trained, held))
  raise ConfigError(f"{names}, and their splits {', '.join(differ)} differ (fingerprints: {prints}){seen}; {remedy}")


def require_unseen(paths: Sequence[str], runs: Sequence[TrainedRun]) -> None:
  """Check that no other run was trained on what the first is held back: its validation and test examples.

  Raises:
    ConfigError: there are such examples, which the first run's own training split does not have.
  """
  for path, run in zip(paths[1:], runs[1:], strict=True):
    if _source(run) == _source(runs[0]):
      continue
    for split, leaks, num in _leaks(run.dataset, runs[0].dataset):
      raise ConfigError(f"{path} was trained on {leaks} of the {num} {split} examples of {paths[0]}, on whose data the "
                        "result is scored; name a run first whose validation and test data the others have not seen.")


def _leaks(trained: Dataset, held: Dataset) -> list[tuple[str, int, int]]:
  """Return the splits of `held` that have examples of the training split of `trained`, not of its own: name, how
  many, of all. """
  known = _hashes(trained.split("train")) - _hashes(held.split("train"))
  counts = [(split, sum(row in known for row in _row_hashes(held.split(split))), held.num_examples(split))
            for split in held.splits if split != "train"]
  return [count for count in counts if count[1]]


def _hashes(split: Split) -> set[int]:
  return set(_row_hashes(split))


def _row_hashes(split: Split) -> list[int]:
  return [hash(np.ascontiguousarray(row).tobytes()) for _, rows in chunks(split) for row in rows["x"]]


def _source(run: TrainedRun) -> tuple[Any, ...]:
  return tuple(run.config.data[field] for field in SOURCE)


def composed_config(runs: Sequence[TrainedRun], fields: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Return the first run's config, with `fields` and the runs' model sections, as "components", in place of its model.

  Settings of sampling that differ between runs, or that some run's model does not take, are left at their defaults.
  What searches came to is kept of every run, by its index.
  """
  config = runs[0].config.copy_and_resolve_references()
  config.model = {**fields, "components": tuple(run.config.model.to_dict() for run in runs)}
  config.evaluation.parameters = "auto"  # each run's choice is made already
  config.search, config.searched = {}, {str(index): run.config.searched.to_dict() for index, run in enumerate(runs)
                                        if run.config.searched}
  own, neutral = config.sampling.to_dict(), defaults.get_config().sampling.to_dict()
  options = [options_taken(run.model) if isinstance(run.model, HasSample) else () for run in runs]
  shared = {field: value for field, value in own.items() if field in MEANT_FOR_ALL or all(
      field in taken and run.config.sampling.get(field) == value for run, taken in zip(runs, options, strict=True))}
  config.sampling = {**neutral, **shared}
  return config


def _require_same_parameters(workdir: Workdir, params: Params) -> None:
  """Raise WorkdirError unless the finished run of the same config has these parameters."""
  kept = checkpoint.restore(workdir.best, 1, {"params": params}, partial=True).state["params"]
  if not all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(params), strict=True)):
    raise WorkdirError(f"workdir {workdir.path} is of the same runs before they were trained anew; delete it, or name "
                       "another folder.")


def write_run(workdir: Workdir, config: ml_collections.ConfigDict, runs: Sequence[TrainedRun], model: Model,
              params: Params, carry: Carry, best_nats: int | float | None = None) -> bool:
  """Write config, checkpoint and result as of a finished run on the data of the first; return whether it was new.

  Args:
    workdir: where.
    config: of the result, see `composed_config`.
    runs: what it is made of.
    model: what the config builds.
    params, carry: its own.
    best_nats: on the validation split, where it is known.

  Raises:
    WorkdirError: the workdir belongs to another config, or to the same of other parameters.
  """
  with workdir.claim(config):
    if workdir.finished_step() is not None:
      _require_same_parameters(workdir, params)
      return False
    workdir.record(config)
    with Run(config, workdir, runs[0].dataset, model, None, make_mesh(devices=jax.devices()[:1])) as saved:
      saved.progress.best_nats, saved.progress.best_step, saved.progress.validated = best_nats, 1, 1
      saved.progress.train_seconds = sum(run.train_seconds for run in runs)
      state = TrainState(jax.numpy.ones((), jax.numpy.int32), params, carry, {}, {})
      saved.best.save(1, state, saved.meta(state))
      saved.checkpoints.save(1, state, saved.meta(state))
    write_json(workdir.finished, {"step": 1, "ended": "finished", "best_nats": best_nats, "best_step": 1,
                                  "train_seconds": saved.progress.train_seconds})
  return True
