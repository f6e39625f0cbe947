"""Runs are recorded by W&B and MLflow, offline unless the environment says otherwise."""

import importlib.util
import json
import os

import pytest
from helpers.commands import TINY

from gdm.errors import ConfigError
from gdm.runs import trackers
from gdm.runs.trackers import require_tracker, tracking

DIGITS = f"{TINY}:digits"


def needs(name):
  return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


@pytest.mark.parametrize(("name", "message"), [("wandbb", "training.track is 'wandbb'; did you mean 'wandb'"),
                                               ("mlflow", "install the extra 'mlflow'")])
def test_what_cannot_be_is_refused(monkeypatch, name, message):
  monkeypatch.setitem(__import__("sys").modules, "mlflow", None)  # as where it is not installed
  with pytest.raises(ConfigError, match=message):
    require_tracker(name)


def test_no_tracker_by_default(tmp_path):
  require_tracker("")
  with tracking("", tmp_path, {}) as tracker:
    tracker.write(1, {"a": 1.0})
  assert not list(tmp_path.iterdir())


def test_the_tracker_is_sealed_whatever_happens(tmp_path, monkeypatch):
  calls = []

  class Fake:
    def __init__(self, folder, settings):
      calls.append((folder, settings))

    def close(self):
      calls.append("closed")

  monkeypatch.setitem(trackers.TRACKERS, "fake", Fake)
  with pytest.raises(OSError), tracking("fake", tmp_path, {"seed": 0}):
    raise OSError
  assert calls == [(tmp_path, {"seed": 0}), "closed"]


@needs("mlflow")
@pytest.mark.slow
def test_mlflow_writes_below_the_workdir(commands, tmp_path):
  """A process imports it, which takes seconds; a run of more steps goes on in the same record."""
  workdir = tmp_path / "run"
  for more in ((), ("--config.training.num_steps=40",)):
    result = commands.run("train", DIGITS, f"--workdir={workdir}", "--track=mlflow", *more)
    assert result.status == 0, result
  number = json.loads((workdir / "mlflow.json").read_text())["run_id"]
  [record] = [path for path in (workdir / "mlruns").rglob(number) if path.is_dir()]
  steps = [int(line.split()[2]) for line in (record / "metrics" / "train" / "loss").read_text().splitlines()]
  assert steps == list(range(2, 41, 2))
  assert (record / "params" / "optimizer.learning_rate").read_text() == "0.01"
  assert list(record.rglob("samples.png"))


@needs("wandb")
@pytest.mark.slow
def test_wandb_writes_offline(commands, tmp_path, monkeypatch):
  """A process starts its service, which takes seconds."""
  monkeypatch.delenv("WANDB_MODE", raising=False)
  workdir = tmp_path / "run"
  result = commands.run("train", DIGITS, f"--workdir={workdir}", "--track=wandb")
  assert result.status == 0, result
  [folder] = (workdir / "wandb").glob("offline-run-*")
  assert [path.suffix for path in folder.glob("*.wandb")] == [".wandb"]
  assert "samples" in "".join(name for _, _, names in os.walk(folder) for name in names)
