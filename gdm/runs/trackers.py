"""Weights & Biases, and MLflow: metrics, settings and pictures of a run, as `train --track=wandb` or `--track=mlflow`.

Nothing leaves the machine unless the environment says so: W&B is offline where WANDB_MODE is not set (`wandb sync`
sends what was written), and MLflow writes below the workdir where MLFLOW_TRACKING_URI is not set. A resumed run goes on
in the same record.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from gdm import checks
from gdm.extras import load_extra
from gdm.runs.workdir import read_json, write_json

PROJECT = "gdm"
_LONGEST_VALUE = 500  # characters of a setting that MLflow takes


class Tracker(Protocol):
  """A record of a run elsewhere."""

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """Record a row of scalars, name -> value."""

  def picture(self, step: int, path: Path) -> None:
    """Record a PNG file, by its name."""

  def close(self) -> None:
    """Seal the record."""


class _NoTracker:
  """A tracker of nothing."""

  def write(self, step: int, row: Mapping[str, float]) -> None:
    del step, row

  def picture(self, step: int, path: Path) -> None:
    del step, path

  def close(self) -> None:
    pass


NO_TRACKER: Tracker = _NoTracker()


class _WeightsAndBiases:
  """A run of W&B in the workdir's folder `wandb`."""

  def __init__(self, folder: Path, settings: Mapping[str, Any]):
    self._wandb = _library("wandb")
    quiet = self._wandb.Settings(console="off", silent=True, x_disable_stats=True)
    # A resumed run has the same workdir, and so the same id.
    number = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    self._run = self._wandb.init(project=os.environ.get("WANDB_PROJECT", PROJECT), name=folder.name, id=number,
                                 resume="allow", dir=str(folder), mode=os.environ.get("WANDB_MODE", "offline"),
                                 config=dict(settings), settings=quiet)

  def write(self, step: int, row: Mapping[str, float]) -> None:
    self._run.log(dict(row), step=step)

  def picture(self, step: int, path: Path) -> None:
    self._run.log({path.stem: self._wandb.Image(str(path))}, step=step)

  def close(self) -> None:
    self._run.finish()


class _MLflow:
  """A run of MLflow, by default in the workdir's folder `mlruns`."""

  def __init__(self, folder: Path, settings: Mapping[str, Any]):
    # MLflow writes to folders only where it is told that this is meant.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow = _library("mlflow")
    self._client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri()))
    record = folder / "mlflow.json"
    if record.exists():
      self._run = read_json(record)["run_id"]
      return
    experiment = self._client.get_experiment_by_name(PROJECT)
    number = self._client.create_experiment(PROJECT) if experiment is None else experiment.experiment_id
    self._run = self._client.create_run(number, run_name=folder.name).info.run_id
    for name, value in settings.items():
      self._client.log_param(self._run, name, str(value)[:_LONGEST_VALUE])
    write_json(record, {"run_id": self._run})

  def write(self, step: int, row: Mapping[str, float]) -> None:
    for name, value in row.items():
      self._client.log_metric(self._run, name, value, step=step)

  def picture(self, step: int, path: Path) -> None:
    del step  # the newest replaces what is there
    self._client.log_artifact(self._run, str(path))

  def close(self) -> None:
    self._client.set_terminated(self._run)


def _library(name: str) -> Any:
  return load_extra(name, name, f"training.track={name}")


TRACKERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {"wandb": _WeightsAndBiases, "mlflow": _MLflow}


def require_tracker(name: str) -> None:
  """Raise ConfigError where there is no tracker of this name, or its package is missing; "" is none."""
  if name:
    checks.one_of("training.track", name, TRACKERS)
    _library(name)


@contextlib.contextmanager
def tracking(name: str, folder: Path, settings: Mapping[str, Any]) -> Iterator[Tracker]:
  """Return the tracker of a run, sealed at the end.

  Args:
    name: of the tracker; "" for none.
    folder: the workdir.
    settings: of the run, dotted field -> value.
  """
  tracker = TRACKERS[name](folder, settings) if name else NO_TRACKER
  try:
    yield tracker
  finally:
    tracker.close()
