"""Plans of a run, from its first state to its end: by gradient steps, or by a fit in closed form or by EM."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import ml_collections
from jax.sharding import Mesh

from gdm import mesh as meshes
from gdm.data.dataset import Dataset
from gdm.data.initial import initial_batch
from gdm.data.loader import Loader, Passes, require_examples
from gdm.errors import ConfigError, UserError
from gdm.model import HasDiagnosis, HasLogLikelihood, HasSolve, HasValidation, Model
from gdm.precision import highest_precision
from gdm.runs.exits import stop
from gdm.runs.feeding import Feed
from gdm.runs.load import open_run
from gdm.runs.profile import Profile
from gdm.runs.progress import Display
from gdm.runs.run import Run
from gdm.runs.utilization import utilization
from gdm.training.loop import Ended, Hook, fit, lower_step
from gdm.training.optimizer import make_optimizers
from gdm.training.preemption import Interruption
from gdm.training.stall import StallGuard
from gdm.training.state import TrainState, init_state, leaf_shapes, state_shapes
from gdm.training.step import make_train_step
from gdm.training.streams import stream_key
from gdm.training.summary import memory_line, mesh_line, parameter_table, quantity
from gdm.training.warm_start import warm_start, what_fits

# Settings of training by steps, and the values of each that ask nothing of a model that is solved.
_OF_STEPS: dict[str, tuple[Any, ...]] = {
    "training.accumulate": (1,), "training.ema_decay": (0.0,), "training.precision": ("float32", "highest"),
    "training.remat": ("none",), "mesh.fsdp": (1,), "mesh.tensor": (1,)}


@dataclasses.dataclass
class Plan:
  """A validated run: its initial state and how to train it.

  Attributes:
    mesh: the devices it runs on.
    like: shapes and shardings of its state.
    require_start: raises UserError where `begin` could make no first state; it writes nothing.
    begin: makes the first state.
    loader: its training batches; None for a model that is solved.
    train: takes the run to its end, or to an interruption.
  """

  mesh: Mesh
  like: TrainState
  require_start: Callable[[], None]
  begin: Callable[[], TrainState]
  loader: Feed | None
  train: Callable[[Run, TrainState], tuple[TrainState, Ended]]


def make_plan(config: ml_collections.ConfigDict, dataset: Dataset, model: Model, profile: Profile | None,
              interruption: Interruption) -> Plan:
  """Return the plan of a run. Raise ConfigError for settings that the data or the model rule out."""
  return (_plan_solve if isinstance(model, HasSolve) else _plan_fit)(config, dataset, model, profile, interruption)


def _plan_fit(config: ml_collections.ConfigDict, dataset: Dataset, model: Model, profile: Profile | None,
              interruption: Interruption) -> Plan:
  """Training by gradient steps."""
  training, key = config.training, jax.random.key(config.seed)
  mesh = meshes.make_mesh(config.mesh.fsdp, tensor=config.mesh.tensor)
  meshes.require_divisible(mesh, config.data.batch_size, "data.batch_size")
  require_examples(dataset, config.data.batch_size)
  minibatches = sum(objective.repeats for objective in model.objectives)
  loader = Loader(dataset, config.data.batch_size, seed=config.seed, minibatches=minibatches,
                  rows=meshes.local_rows(mesh, config.data.batch_size))
  loader = Feed(loader, dataset.split("train"), mesh, config.data.feed)
  optimizers = make_optimizers(config.optimizer.to_dict(), training.num_steps, model)
  ema = training.ema_decay > 0
  example = initial_batch(dataset, config.data.init_examples)
  step = make_train_step(model, optimizers, ema_decay=training.ema_decay, accumulate=training.accumulate,
                         unroll=training.unroll, precision=training.precision, remat=training.remat)

  shapes = state_shapes(model, optimizers, example, ema=ema, mesh=mesh)
  meshes.require_use(mesh, leaf_shapes(shapes.params))
  # Before the workdir is recorded: a model may find fault with the batch only when it is traced.
  lowered = lower_step(step, shapes, loader.batch_shapes(training.steps_per_call), mesh, training.steps_per_call,
                       training.unroll_call)

  def diagnose(state: TrainState) -> str:
    return model.diagnose(state.params, state.carry) if isinstance(model, HasDiagnosis) else ""

  def train(run: Run, state: TrainState) -> tuple[TrainState, Ended]:
    validates = isinstance(model, HasLogLikelihood | HasValidation) and training.eval_every > 0
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
    with display, interruption.deferred(), loader, StallGuard(loader, training.stall_seconds, _stalled) as batches:
      if begin < training.num_steps:
        interruption.start_clock()
      state, ended = fit(compiled, state, batches, key=key, num_steps=training.num_steps, window=run.window,
                         hooks=hooks, interrupted=interruption, diagnose=diagnose)
      if profile is not None:
        profile.stop()
      run.save(state, int(state.step))
      run.checkpoints.finish()
    return state, ended

  other = functools.cache(lambda: open_run(training.init_from))

  def require_start() -> None:
    if training.init_from:
      try:
        what_fits(shapes, other().params, other().carry)
      except UserError as error:
        raise ConfigError(f"training.init_from is {training.init_from!r}, but {error}") from error

  def begin_state() -> TrainState:
    state = init_state(model, optimizers, key, example, ema=ema, mesh=mesh)
    if training.init_from:
      state, taken = warm_start(state, other().params, other().carry)
      print(f"weights of {other().name} at step {other().step} in {training.init_from}: {taken.in_words()}.")
    return state

  return Plan(mesh, shapes, require_start, begin_state, loader, train)


def _validate(run: Run, interruption: Interruption, state: TrainState, step: int) -> bool:
  """Save, then validate, which signals cut at once; return whether patience is spent."""
  def stop_saved() -> None:
    line = f"interrupted and saved at step {step}; the same command resumes."
    try:
      run.checkpoints.finish()
    except UserError as error:
      line = f"interrupted; {error}"
    stop(line)

  run.save(state, step)
  if jax.process_count() > 1:
    run.checkpoints.finish()  # one process alone cannot
  with interruption.at_once(stop_saved):
    score = run.score(state, step)
  return run.judge(score, state, step)


def _stalled(seconds: float) -> NoReturn:
  stop(f"the data source gave no batch for {seconds:g} s (training.stall_seconds); the same command resumes from the "
       "last checkpoint.")


def _plan_solve(config: ml_collections.ConfigDict, dataset: Dataset, model: Any, profile: Profile | None,
                interruption: Interruption) -> Plan:
  """Return a fit in closed form or by EM; an interrupted one starts again, since it takes seconds."""
  if jax.process_count() > 1:
    raise ConfigError(f"{config.model.name} is fitted by one process, and {jax.process_count()} were started; start "
                      "one.")
  if profile is not None:
    raise ConfigError(f"--profile_steps is given, but {config.model.name} is fitted without steps.")
  if config.training.init_from:
    raise ConfigError(f"training.init_from is {config.training.init_from!r}, but {config.model.name} is fitted from "
                      "nothing; leave it out.")
  for field, neutral in _OF_STEPS.items():
    section, name = field.split(".")
    if (value := config[section][name]) not in neutral:
      raise ConfigError(f"{field} is {value!r}, but {config.model.name} is fitted without steps, on one device, at the "
                        f"highest precision; leave it at {neutral[0]!r}.")
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
  return Plan(mesh, first, lambda: None, lambda: first, None, train)


def _facts(state: TrainState, flops: float | None, temporary_bytes: int | None, mesh: Mesh) -> str:
  """Describe a run: its parameters, its mesh, and what a step takes."""
  compiler = "unknown" if flops is None else f"{quantity(flops)}FLOPs"
  return "\n".join([parameter_table(state.params), mesh_line(mesh), memory_line(state, temporary_bytes),
                    f"{compiler} per step"])
