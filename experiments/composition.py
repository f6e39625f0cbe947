"""Finished runs made into one model: reading them, and a workdir of the result as of a finished run."""

from collections.abc import Sequence
from typing import Any

import jax

from experiments.run import Run
from experiments.trained import TrainedRun, load_run
from experiments.workdir import Workdir, write_json
from gdm.errors import ConfigError
from gdm.mesh import make_mesh
from gdm.model import Carry, Model, Params
from gdm.training.state import TrainState


def load_runs(paths: Sequence[str], same_data: bool = True) -> list[TrainedRun]:
  """The runs, in order. Raises ConfigError unless all are on the same data, or else on data of the same kind."""
  first, *_ = runs = [load_run(Workdir(paths[0]), {})]
  for path in paths[1:]:
    run = load_run(Workdir(path), {})
    if run.dataset.spec != first.dataset.spec or (same_data and run.dataset.name != first.dataset.name):
      shared = "their data section" if same_data else "their data's spec"
      raise ConfigError(f"{path} is on {run.dataset.name} {run.dataset.spec}, but {paths[0]} is on "
                        f"{first.dataset.name} {first.dataset.spec}; runs made into one share {shared}.")
    runs.append(run)
  return runs


def write_run(workdir: Workdir, runs: Sequence[TrainedRun], fields: dict[str, Any], model: Model, params: Params,
              carry: Carry, best_nats: float | None = None) -> None:
  """Writes config, checkpoint and result as of a finished run, on the data of the first.

  Args:
    workdir: where.
    runs: what it is made of.
    fields: of the model, as a config has them; the runs' own model sections become its "components".
    model: what the fields build.
    params, carry: its own.
    best_nats: on the validation split, where it is known.
  """
  config, dataset = runs[0].config.copy_and_resolve_references(), runs[0].dataset
  config.model = {**fields, "components": tuple(run.config.model.to_dict() for run in runs)}
  config.evaluation.parameters = "auto"  # each run's choice is made already
  with workdir.claim(config):
    workdir.record(config)
    with Run(config, workdir, dataset, model, None, make_mesh(devices=jax.devices()[:1])) as saved:
      saved.progress.best_nats, saved.progress.best_step = best_nats, 1
      saved.progress.train_seconds = sum(run.train_seconds for run in runs)
      state = TrainState(jax.numpy.ones((), jax.numpy.int32), params, carry, {}, {})
      saved.best.save(1, state, saved.meta(state))
      saved.checkpoints.save(1, state, saved.meta(state))
    write_json(workdir.finished, {"step": 1, "ended": "finished", "best_nats": best_nats, "best_step": 1,
                                  "train_seconds": saved.progress.train_seconds})
