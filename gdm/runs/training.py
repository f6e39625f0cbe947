"""Trains a config into a workdir, or goes on with what was trained there."""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator

import jax
import ml_collections

from gdm.data.dataset import Dataset
from gdm.data.partition import repeats_in_words
from gdm.errors import ConfigError, NotFiniteError
from gdm.model import HasVerdict
from gdm.precision import highest_precision
from gdm.runs.events import Events
from gdm.runs.exits import EXIT_RESUME_ME, stop
from gdm.runs.load import load_run
from gdm.runs.plans import Plan, make_plan
from gdm.runs.plotting import draw_curves, draw_model
from gdm.runs.profile import Profile
from gdm.runs.recorded import load_data, require_same_data
from gdm.runs.registry import build_model
from gdm.runs.run import Run
from gdm.runs.sampling import require_samples
from gdm.runs.scoring import scored_by
from gdm.runs.settings import check_settings, flatten_fields, within_run
from gdm.runs.sizes import sized
from gdm.runs.trackers import Tracker, require_tracker, tracking
from gdm.runs.workdir import PICTURES, Workdir, read_json, write_json
from gdm.training import checkpoint, hosts
from gdm.training.loop import Ended
from gdm.training.metrics import read_metrics
from gdm.training.optimizer import make_schedule
from gdm.training.preemption import Interruption
from gdm.training.state import TrainState, count_parameters
from gdm.training.step import loss_units

# Called with the run, its last step, and how it ended.
Finish = Callable[[Run, int, Ended], None]


def train(config: ml_collections.ConfigDict, workdir: Workdir, profile: Profile | None,
          interruption: Interruption) -> int:
  """Train a config, draw its pictures, and return the exit code: 0, or 75 where it was interrupted and saved.

  Args:
    config: the whole config, as `gdm.runs.settings.with_defaults` gives it.
    workdir: a fresh one, or that of the same config.
    profile: steps to trace.
    interruption: signals and the limit of time.

  Raise UserError for what the user can mend; nothing is written before a config was found right.
  """
  with _claimed(workdir, config):
    return _train(config, workdir, profile, interruption, _finish)


def trial(interruption: Interruption, config: ml_collections.ConfigDict, workdir: Workdir) -> float | None:
  """Train one setting of a search without output; return its best validation in nats."""
  ended: list[float | None] = []
  config = config.copy_and_resolve_references()
  config.training.track = ""  # the run that comes of the search is tracked
  with _claimed(workdir, config), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    _train(config, workdir, None, interruption, lambda run, step, how: ended.append(run.progress.best_nats))
  if not ended:
    stop()  # it was told to, and has saved
  return ended[0]


def require_same_config(config: ml_collections.ConfigDict) -> None:
  """Raise ConfigError where this process was given another config than the first one."""
  first, mine = hosts.from_first(lambda: config.to_json()), config.to_json()
  if mine != first:
    theirs, ours = (flatten_fields(json.loads(text)) for text in (first, mine))
    differ = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    raise ConfigError(f"{', '.join(differ[:3])} of process {jax.process_index()} differ from those of process 0; all "
                      "processes of a run need the same config.")
  hosts.barrier("same config")  # or the first one would have claimed the workdir by then


@contextlib.contextmanager
def _claimed(workdir: Workdir, config: ml_collections.ConfigDict) -> Iterator[None]:
  """Return the workdir, claimed by the first process for all."""
  with contextlib.ExitStack() as stack:
    hosts.from_first(lambda: stack.enter_context(workdir.claim(config)))
    yield


def _train(config: ml_collections.ConfigDict, workdir: Workdir, profile: Profile | None, interruption: Interruption,
           finish: Finish) -> int:
  step, grown, moved = hosts.from_first(lambda: (workdir.finished_step(), workdir.grown_from(config),
                                                 workdir.has_moved_data(config)))
  if step is not None and not (grown == step and hosts.from_first(lambda: _reached_its_end(workdir))):
    if moved:
      _require_recorded_data(workdir, load_data(config))
    print(f"{workdir.name} is finished already, at step {step}.")
    return 0
  dataset = load_data(config)
  if grown is not None or moved:  # before anything of the run is changed
    _require_recorded_data(workdir, dataset)
  config, as_given = within_run(sized(config, dataset.num_examples("train"))), config
  check_settings(config)
  require_tracker(config.training.track)
  model = scored_by(build_model(config.model.to_dict(), dataset.spec), config.evaluation.likelihood)
  plan = make_plan(config, dataset, model, profile, interruption)
  require_samples(config, model, dataset, plan.like.params, plan.like.carry)
  if not hosts.from_first(workdir.has_checkpoints):  # a run under way needs the one that it began with no more
    plan.require_start()
  hosts.from_first(lambda: workdir.begin(as_given))
  if grown is not None:
    print(_growth(config, grown))
  name = config.training.track if hosts.is_first() else ""
  with tracking(name, workdir.path, flatten_fields(config.to_dict())) as tracker:
    run = Run(config, workdir, dataset, model, plan.loader, plan.mesh, tracker)
    return _carry_out(run, plan, interruption, finish)


def _carry_out(run: Run, plan: Plan, interruption: Interruption, finish: Finish) -> int:
  """Train from the newest checkpoint to the end; returns the exit code."""
  with run:
    state = run.resume(plan.like, plan.begin)
    print(_headline(run, state))
    if words := repeats_in_words(run.dataset):
      print(words)
    try:
      state, ended = plan.train(run, state)
    except NotFiniteError as error:
      good = run.last_good_step()
      kept = "no checkpoint was saved yet" if good is None else f"the last good checkpoint, step {good}, is kept"
      raise NotFiniteError(f"{error} Training stopped; {kept}. A smaller optimizer.learning_rate or an "
                           "optimizer.clip_norm may help, in another workdir.") from error
  if ended is Ended.INTERRUPTED:
    print(f"interrupted and saved at step {int(state.step)}; the same command resumes.")
    return EXIT_RESUME_ME
  with interruption.at_once():  # also for what came after the last step
    finish(run, int(state.step), ended)
  return 0


def _require_recorded_data(workdir: Workdir, dataset: Dataset) -> None:
  """Raise WorkdirError where the data are not those of the newest checkpoint; without one nothing is known."""
  step = hosts.from_first(lambda: checkpoint.newest_good_step(workdir.checkpoints))
  if step is not None:
    then = hosts.from_first(lambda: checkpoint.read_meta(workdir.checkpoints, step)["data_identity"])
    require_same_data(workdir.path, dataset, then, (*dataset.splits, "vocabulary"))


def _reached_its_end(workdir: Workdir) -> bool:
  """Return whether a finished run ended by its number of steps, not by early stopping or because it was solved."""
  record = read_json(workdir.finished)
  return record.get("ended") == str(Ended.FINISHED) and record["step"] == workdir.read_config().training.num_steps


def _growth(config: ml_collections.ConfigDict, before: int) -> str:
  """Return what a larger number of steps changes, in words."""
  steps, optimizer = config.training.num_steps, config.optimizer.to_dict()
  old, new = (float(make_schedule(optimizer, num)(before)) for num in (before, steps))
  line = f"{steps} steps in place of {before}"
  if math.isclose(old, new):
    return f"{line}."
  return (f"{line}; optimizer.schedule={optimizer['schedule']} is that of {steps} steps from here on, so that at step "
          f"{before} the learning rate is {new:.3g} where it would have been {old:.3g}.")


def _headline(run: Run, state: TrainState) -> str:
  dataset, spec = run.dataset, run.dataset.spec
  values = f"{spec.levels} levels" if spec.is_discrete else "continuous"
  if "levels" in dataset.info:
    values += f" ({dataset.info['levels']})"
  sizes = "/".join(str(dataset.num_examples(split)) for split in dataset.splits)
  return (f"{run.config.model.name} on {dataset.name} ({'x'.join(map(str, spec.event))}, {values}, {sizes} examples), "
          f"{count_parameters(state.params):,} parameters.")


def _show_pictures(workdir: Workdir, tracker: Tracker, step: int) -> None:
  """Give the run's pictures to TensorBoard and the tracker."""
  events = Events(workdir.tensorboard)
  for path in (workdir.path / name for name in PICTURES):
    if path.is_file():
      events.picture(step, path)
      tracker.picture(step, path)
  events.close()


def _finish(run: Run, step: int, ended: Ended) -> None:
  """Draw the pictures, and only then calls the run finished, so that a kill before leaves something to resume."""
  progress = run.progress
  trained = load_run(run.workdir, {}, dataset=run.dataset)
  if not hosts.is_first():
    return
  draw_curves(run.workdir, f"{run.config.model.name} on {run.dataset.name}", loss_units(run.model))
  with highest_precision():
    draw_model(trained)
  _show_pictures(run.workdir, run.tracker, step)
  write_json(run.workdir.finished, {"step": step, "ended": str(ended), **dataclasses.asdict(progress)})
  best = f", best validation {progress.best('.4f')} at step {progress.best_step}" if progress.best_step else ""
  early = " by early stopping" if ended is Ended.STOPPED else ""
  print(f"finished{early} at step {step} after {progress.train_seconds:.1f} s{best}.")
  if words := _verdict(run):
    print(f"warning: {words}")


def _verdict(run: Run) -> str:
  """Return what the model has to say of its last metrics; "" for nothing."""
  if not isinstance(run.model, HasVerdict):
    return ""
  last = {name.removeprefix("train/"): value for row in read_metrics(run.workdir.metrics) for name, value in row.items()
          if name.startswith("train/")}
  return run.model.verdict(last)
