"""Trains one model from a config into a workdir; the same command again resumes.

  python -m experiments.train --config=configs/autoregressive/made.py:digits --workdir=runs/made
      [--config.optimizer.learning_rate=3e-4 ...] [--max_seconds=3600] [--profile_steps=10:15] [--search=5m]
      [--coordinator=HOST:PORT --num_processes=N --process_id=I]

After the colon stands the data set, one of the config's variants. Every field of the config can be overridden as
--config.<section>.<field>=<value>; the fields are listed in gdm/runs/defaults.py and in the config's own file.

The workdir gets config.json, checkpoints (the last ones, and the best by validation), metrics.jsonl, events for
TensorBoard, curves.png and samples.png. With --search the settings that the config's section `search` lists are first
tried for so long on the validation split (gdm/runs/search.py), and reports name what was chosen. Several processes,
one per host, share a workdir; a cluster that JAX knows needs no --coordinator.

Ctrl-C, SIGTERM (of a queue, or a machine that is taken away) and --max_seconds end it within a step. Before each
validation the state is saved, so that validations and pictures are cut at once; the next start does them again.

Exit codes: 0 finished, 2 bad input, 75 interrupted and saved: run it again to resume.
"""

import contextlib
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import ml_collections
from absl import flags
from jax.sharding import Mesh
from ml_collections import config_flags

from experiments import cli
from experiments import hosts as run_hosts
from gdm import mesh as meshes
from gdm.data.dataset import Dataset
from gdm.data.initial import initial_batch
from gdm.data.loader import Loader, Passes
from gdm.errors import ConfigError, NotFiniteError, UserError
from gdm.model import HasDiagnosis, HasLogLikelihood, HasSolve, Model
from gdm.precision import highest_precision
from gdm.runs.allocation import keep_freed_memory, limit_threads, will_run_on_cpu
from gdm.runs.load import load_data, load_run
from gdm.runs.plotting import draw_curves, draw_model
from gdm.runs.profile import Profile
from gdm.runs.progress import Display
from gdm.runs.registry import build_model
from gdm.runs.run import Run
from gdm.runs.scoring import scored_by
from gdm.runs.search import parse_budget, searched
from gdm.runs.settings import check_settings, flatten_fields, with_defaults
from gdm.runs.sizes import keep_settings, sized
from gdm.runs.utilization import utilization
from gdm.runs.workdir import Workdir, write_json
from gdm.training import hosts
from gdm.training.loop import Ended, Hook, fit, lower_step
from gdm.training.optimizer import make_optimizer
from gdm.training.preemption import Interruption
from gdm.training.stall import StallGuard
from gdm.training.state import TrainState, count_parameters, init_state, optimizers_for, state_shapes
from gdm.training.step import loss_units, make_train_step
from gdm.training.streams import stream_key
from gdm.training.summary import memory_line, mesh_line, parameter_table, quantity

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<family>/<model>.py:<dataset>", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; made if absent.")
_MAX_SECONDS = flags.DEFINE_float("max_seconds", None, "Save and exit with 75 after so many seconds, for queue limits.")
_THREADS = flags.DEFINE_integer("threads", None, "Of a CPU; one for each core by default. Small models are faster with "
                                "1.")
_SEARCH = flags.DEFINE_string("search", None, "First choose settings on the validation split for so long: 90s, 5m, "
                              "1h; see gdm/runs/search.py.")
_PROFILE = flags.DEFINE_string("profile_steps", None, "FIRST:LAST, steps to trace into <workdir>/profile.")

_START = time.monotonic()


@dataclasses.dataclass
class Plan:
  """A run that nothing in the config can hinder any more: where it begins, and how it goes on.

  Attributes:
    mesh: the devices it runs on.
    like: shapes and shardings of its state.
    begin: makes the first state.
    loader: its training batches; None for a model that is solved.
    train: takes the run to its end, or to an interruption.
  """

  mesh: Mesh
  like: TrainState
  begin: Callable[[], TrainState]
  loader: Loader | None
  train: Callable[[Run, TrainState], tuple[TrainState, Ended]]


def main(argv: Sequence[str]) -> int:
  cli.refuse_arguments(argv)
  cli.require_flag("config")
  workdir = Workdir(cli.require_flag("workdir"))
  config = keep_settings(with_defaults(_CONFIG.value), cli.overrides())
  check_settings(config)
  if _MAX_SECONDS.value is not None and not _MAX_SECONDS.value > 0:
    raise ConfigError(f"--max_seconds is {_MAX_SECONDS.value}; it must be above 0.")
  if _THREADS.value is not None and _THREADS.value < 1:
    raise ConfigError(f"--threads is {_THREADS.value}; it must be at least 1.")
  budget = None if _SEARCH.value is None else parse_budget(_SEARCH.value)
  profile = _PROFILE.value and Profile(_PROFILE.value, workdir.path / "profile", config.training.steps_per_call)
  if will_run_on_cpu():
    keep_freed_memory()
    if _THREADS.value is not None:
      limit_threads(_THREADS.value)
  run_hosts.join()
  _require_same_config(config)
  with Interruption(_stop, _MAX_SECONDS.value, _START) as interruption:
    if budget is not None:
      if jax.process_count() > 1:
        raise ConfigError(f"--search is given to {jax.process_count()} processes; a search takes one.")
      config = searched(config, workdir, budget, functools.partial(_trial, interruption))
    with _claimed(workdir, config):
      return _train(config, workdir, profile or None, interruption, _finish)


@contextlib.contextmanager
def _claimed(workdir: Workdir, config: ml_collections.ConfigDict) -> Iterator[None]:
  """The workdir, claimed by the first process for all."""
  with contextlib.ExitStack() as stack:
    hosts.from_first(lambda: stack.enter_context(workdir.claim(config)))
    yield


def _require_same_config(config: ml_collections.ConfigDict) -> None:
  """Raises ConfigError where this process was given another config than the first one."""
  first, mine = hosts.from_first(lambda: config.to_json()), config.to_json()
  if mine != first:
    theirs, ours = (flatten_fields(json.loads(text)) for text in (first, mine))
    differ = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    raise ConfigError(f"{', '.join(differ[:3])} of process {jax.process_index()} differ from those of process 0; all "
                      "processes of a run need the same config.")
  hosts.barrier("same config")  # or the first one would have claimed the workdir by then


def _stop(line: str = "interrupted; the same command resumes from the last checkpoint, or starts over where there is "
                      "none.") -> NoReturn:
  """Ends the process here and now.

  Not by an exception, which a callback of somebody's may swallow, nor by the way of all ends, on which Orbax's threads
  would wait for minutes for a save that was cut. What is on disk survives a kill at any moment, so it survives this.
  """
  with contextlib.suppress(RuntimeError):  # the signal came in the middle of a print
    sys.stdout.flush()
  if sys.stderr.isatty():
    os.write(2, b"\n")  # after the progress bar
  os.write(1, line.encode() + b"\n")
  cli.ended(cli.EXIT_RESUME_ME, line)
  os._exit(cli.EXIT_RESUME_ME)


def _trial(interruption: Interruption, config: ml_collections.ConfigDict, workdir: Workdir) -> float | None:
  """Trains a setting of a search; returns its best validation in nats. What it prints is dropped."""
  ended: list[float | None] = []
  with _claimed(workdir, config), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    _train(config, workdir, None, interruption, lambda run, step, how: ended.append(run.progress.best_nats))
  if not ended:
    _stop()  # it was told to, and has saved
  return ended[0]


def _train(config: ml_collections.ConfigDict, workdir: Workdir, profile: Profile | None, interruption: Interruption,
           finish: Callable[[Run, int, Ended], None]) -> int:
  if (step := hosts.from_first(workdir.finished_step)) is not None:
    print(f"{workdir.path} is finished already, at step {step}.")
    return 0
  dataset = load_data(config)
  config, as_given = sized(config, dataset.num_examples("train")), config
  check_settings(config)
  model = scored_by(build_model(config.model.to_dict(), dataset.spec), config.evaluation.likelihood)
  plan = (_plan_solve if isinstance(model, HasSolve) else _plan_fit)(config, dataset, model, profile, interruption)
  hosts.from_first(lambda: workdir.record(as_given))
  with Run(config, workdir, dataset, model, plan.loader, plan.mesh) as run:
    state = run.resume(plan.like, plan.begin)
    print(_headline(run, state))
    try:
      state, ended = plan.train(run, state)
    except NotFiniteError as error:
      good = run.last_good_step()
      kept = "no checkpoint was saved yet" if good is None else f"the last good checkpoint, step {good}, is kept"
      raise NotFiniteError(f"{error} Training stopped; {kept}. A smaller optimizer.learning_rate or an "
                           "optimizer.clip_norm may help, in another workdir.") from error
  if ended is Ended.INTERRUPTED:
    print(f"interrupted and saved at step {int(state.step)}; the same command resumes.")
    return cli.EXIT_RESUME_ME
  with interruption.at_once():  # also for what came after the last step
    finish(run, int(state.step), ended)
  return 0


def _plan_fit(config: ml_collections.ConfigDict, dataset: Dataset, model: Model, profile: Profile | None,
              interruption: Interruption) -> Plan:
  """Training by gradient steps."""
  training, key, mesh = config.training, jax.random.key(config.seed), meshes.make_mesh(config.mesh.fsdp)
  meshes.require_divisible(mesh, config.data.batch_size, "data.batch_size")
  minibatches = sum(objective.repeats for objective in model.objectives)
  loader = Loader(dataset, config.data.batch_size, seed=config.seed, minibatches=minibatches,
                  rows=meshes.local_rows(mesh, config.data.batch_size))
  optimizers, ema = optimizers_for(model, make_optimizer(config.optimizer, training.num_steps)), training.ema_decay > 0
  example = initial_batch(dataset, config.data.init_examples)
  step = make_train_step(model, optimizers, ema_decay=training.ema_decay, accumulate=training.accumulate,
                         unroll=training.unroll, precision=training.precision, remat=training.remat)

  shapes = state_shapes(model, optimizers, example, ema=ema, mesh=mesh)
  # Before the workdir is recorded: a model may find fault with the batch only when it is traced.
  lowered = lower_step(step, shapes, loader.batch_shapes(training.steps_per_call), mesh, training.steps_per_call,
                       training.unroll_call)

  def diagnose(state: TrainState) -> str:
    return model.diagnose(state.params, state.carry) if isinstance(model, HasDiagnosis) else ""

  def train(run: Run, state: TrainState) -> tuple[TrainState, Ended]:
    validates = isinstance(model, HasLogLikelihood) and training.eval_every > 0
    begin = int(state.step)
    if validates and begin and begin % training.eval_every == 0 and run.progress.validated < begin:
      with interruption.deferred():
        _validate(run, interruption, state, begin)  # which was cut
    if run.out_of_patience:  # it was killed between its last save and the end
      return state, Ended.STOPPED
    compiled = lowered.compile()
    print(_facts(state, compiled.flops, compiled.temporary_bytes, mesh))
    display = Display(run, int(state.step), training.num_steps, config.data.batch_size * minibatches,
                      lambda rate: utilization(mesh, compiled.flops, rate))

    def untimed(hook: Callable[[TrainState, int], bool | None]) -> Callable[[TrainState, int], bool | None]:
      def call(state: TrainState, step: int) -> bool | None:
        answer = hook(state, step)
        display.pause()
        return answer

      return call

    hooks = [Hook(training.log_every, lambda state, step: display.show(step))]
    if validates:
      hooks.append(Hook(training.eval_every, untimed(functools.partial(_validate, run, interruption))))
    hooks.append(Hook(training.checkpoint_every, untimed(run.save)))
    if profile is not None:
      profile.start(int(state.step))
      hooks.append(profile.hook)
    # Within the loop, signals let the step end, and the state be saved.
    with display, interruption.deferred(), StallGuard(loader, training.stall_seconds, _stalled) as batches:
      if begin < training.num_steps:
        interruption.start_clock()
      state, ended = fit(compiled, state, batches, key=key, num_steps=training.num_steps, window=run.window,
                         hooks=hooks, interrupted=interruption, diagnose=diagnose)
      if profile is not None:
        profile.stop()
      run.save(state, int(state.step))
      run.checkpoints.finish()
    return state, ended

  return Plan(mesh, shapes, lambda: init_state(model, optimizers, key, example, ema=ema, mesh=mesh), loader, train)


def _validate(run: Run, interruption: Interruption, state: TrainState, step: int) -> bool:
  """Save, then validate, which signals cut at once; return whether patience is spent."""
  def stop() -> None:
    line = f"interrupted and saved at step {step}; the same command resumes."
    try:
      run.checkpoints.finish()
    except UserError as error:
      line = f"interrupted; {error}"
    _stop(line)

  run.save(state, step)
  if jax.process_count() > 1:
    run.checkpoints.finish()  # one process alone cannot
  with interruption.at_once(stop):
    score = run.score(state, step)
  return run.judge(score, state, step)


def _stalled(seconds: float) -> NoReturn:
  _stop(f"the data source gave no batch for {seconds:g} s (training.stall_seconds); the same command resumes from the "
        "last checkpoint.")


def _plan_solve(config: ml_collections.ConfigDict, dataset: Dataset, model: Any, profile: Profile | None,
                interruption: Interruption) -> Plan:
  """A fit in closed form or by EM; an interrupted one starts again, since it takes seconds."""
  if jax.process_count() > 1:
    raise ConfigError(f"{config.model.name} is fitted by one process, and {jax.process_count()} were started; start "
                      "one.")
  if profile is not None:
    raise ConfigError(f"--profile_steps is given, but {config.model.name} is fitted without steps.")
  key, mesh = jax.random.key(config.seed), meshes.make_mesh(devices=jax.devices()[:1])

  def state_at(step: int, params, carry) -> TrainState:
    return TrainState(jax.numpy.asarray(step, jax.numpy.int32), params, carry, {}, {})

  def train(run: Run, state: TrainState) -> tuple[TrainState, Ended]:
    iterations, is_new = 1, not int(state.step)

    def report(iteration: int, metrics: Mapping[str, float]) -> None:
      nonlocal iterations
      iterations = max(iterations, iteration)
      run.log_training(iteration, metrics)
      display.show(iteration)

    if is_new:
      with Display(run) as display, highest_precision():  # nothing is configured: a fit is a computation of numbers
        params, carry = model.solve(stream_key(key, "solve", 0), Passes(dataset, config.evaluation.batch_size), report)
      state = state_at(iterations, params, carry)
    with interruption.deferred():
      if is_new:
        interruption.start_clock()
      if run.progress.validated < int(state.step):
        _validate(run, interruption, state, int(state.step))
      run.save(state, int(state.step))
      run.checkpoints.finish()
    return state, Ended.FINISHED

  first = state_at(0, *model.init(key, dataset.split("train").rows(slice(0, 1))))
  return Plan(mesh, first, lambda: first, None, train)


def _headline(run: Run, state: TrainState) -> str:
  dataset, spec = run.dataset, run.dataset.spec
  values = f"{spec.levels} levels" if spec.is_discrete else "continuous"
  if "levels" in dataset.info:
    values += f" ({dataset.info['levels']})"
  sizes = "/".join(str(dataset.num_examples(split)) for split in dataset.splits)
  return (f"{run.config.model.name} on {dataset.name} ({'x'.join(map(str, spec.event))}, {values}, {sizes} examples), "
          f"{count_parameters(state.params):,} parameters.")


def _facts(state: TrainState, flops: float | None, temporary_bytes: int | None, mesh: Mesh) -> str:
  """What a run is made of: its parameters, its mesh, and what a step takes."""
  compiler = "unknown" if flops is None else f"{quantity(flops)}FLOPs"
  return "\n".join([parameter_table(state.params), mesh_line(mesh), memory_line(state, temporary_bytes),
                    f"{compiler} per step"])


def _finish(run: Run, step: int, ended: Ended) -> None:
  """Draws the pictures, and only then calls the run finished, so that a kill before leaves something to resume."""
  progress = run.progress
  trained = load_run(run.workdir, {}, dataset=run.dataset)
  if not hosts.is_first():
    return
  draw_curves(run.workdir, f"{run.config.model.name} on {run.dataset.name}", loss_units(run.model))
  with highest_precision():
    draw_model(run.workdir, trained)
  write_json(run.workdir.finished, {"step": step, "ended": str(ended), **dataclasses.asdict(progress)})
  best = f", best validation {progress.best_nats:.4f} nats at step {progress.best_step}" if progress.best_step else ""
  early = " by early stopping" if ended is Ended.STOPPED else ""
  print(f"finished{early} at step {step} after {progress.train_seconds:.1f} s{best}.")


if __name__ == "__main__":
  cli.run(main, precise=False)
