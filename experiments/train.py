"""Trains one model from a config into a workdir; the same command again resumes.

  python -m experiments.train --config=configs/autoregressive/made.py:digits --workdir=runs/made
      [--config.optimizer.learning_rate=3e-4 ...]

After the colon stands the data set, one of the config's variants. Every field of the config can be overridden as
--config.<section>.<field>=<value>; the fields are listed in configs/base.py and in the config's own file.

The workdir gets config.json, checkpoints (the last ones, and the best by validation), metrics.jsonl, events for
TensorBoard, curves.png and samples.png.

Exit codes: 0 finished, 2 bad input, 75 interrupted and saved: run it again to resume.
"""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import ml_collections
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from experiments import cli
from experiments.pictures import draw_curves, draw_model
from experiments.registry import build_model
from experiments.run import Run
from experiments.settings import check_settings, with_defaults
from experiments.trained import load_data, load_run
from experiments.workdir import Workdir, write_json
from gdm.data.dataset import Dataset
from gdm.data.loader import Loader, Passes
from gdm.errors import ConfigError, NotFiniteError
from gdm.model import HasLogLikelihood, HasSolve, Model
from gdm.training.loop import Ended, Hook, fit
from gdm.training.optimizer import make_optimizer
from gdm.training.preemption import Interruption
from gdm.training.state import TrainState, count_parameters, init_state, optimizers_for
from gdm.training.step import make_train_step
from gdm.training.streams import stream_key

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<family>/<model>.py:<dataset>", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; made if absent.")


@dataclasses.dataclass
class Plan:
  """A run that nothing in the config can hinder any more: where it begins, and how it goes on."""

  state: TrainState
  loader: Loader | None
  train: Callable[[Run, TrainState], tuple[TrainState, Ended]]


def main(argv: Sequence[str]) -> int:
  cli.refuse_arguments(argv)
  cli.require_flag("config")
  workdir, config = Workdir(cli.require_flag("workdir")), with_defaults(_CONFIG.value)
  check_settings(config)
  # Outside the loop of steps both signals stop at once.
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: _stop())
  try:
    with workdir.claim(config):
      return _train(config, workdir)
  except KeyboardInterrupt:  # a second Ctrl-C within the loop
    _stop()


def _stop() -> NoReturn:
  """Ends the process here and now.

  Not by an exception, which a callback of somebody's may swallow, nor by the way of all ends, on which Orbax's threads
  would wait for minutes for a save that was cut. What is on disk survives a kill at any moment, so it survives this.
  """
  with contextlib.suppress(RuntimeError):  # the signal came in the middle of a print
    sys.stdout.flush()
  os.write(1, b"interrupted; the same command resumes from the last checkpoint, or starts over where there is none.\n")
  os._exit(cli.EXIT_RESUME_ME)


def _train(config: ml_collections.ConfigDict, workdir: Workdir) -> int:
  if (step := workdir.finished_step()) is not None:
    print(f"{workdir.path} is finished already, at step {step}.")
    return 0
  dataset = load_data(config)
  model = build_model(config.model.to_dict(), dataset.spec)
  plan = (_plan_solve if isinstance(model, HasSolve) else _plan_fit)(config, dataset, model)
  workdir.record(config)
  with Run(config, workdir, dataset, model, plan.loader) as run:
    state = run.resume(plan.state)
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
  _finish(run, int(state.step), ended)
  return 0


def _plan_fit(config: ml_collections.ConfigDict, dataset: Dataset, model: Model) -> Plan:
  """Training by gradient steps."""
  training, key = config.training, jax.random.key(config.seed)
  if config.data.batch_size % jax.device_count():
    raise ConfigError(f"data.batch_size is {config.data.batch_size}; it must be a multiple of the number of devices, "
                      f"{jax.device_count()}.")
  loader = Loader(dataset, config.data.batch_size, seed=config.seed,
                  minibatches=sum(objective.repeats for objective in model.objectives))
  optimizers = optimizers_for(model, make_optimizer(config.optimizer, training.num_steps))
  example = dataset.split("train").rows(slice(0, config.data.init_examples))
  initial = init_state(model, optimizers, key, example, ema=training.ema_decay > 0)
  step = make_train_step(model, optimizers, ema_decay=training.ema_decay, accumulate=training.accumulate,
                         unroll=training.unroll)

  def train(run: Run, state: TrainState) -> tuple[TrainState, Ended]:
    if run.out_of_patience:  # it was killed between its last save and the end
      return state, Ended.STOPPED
    bar = tqdm(total=training.num_steps, initial=int(state.step), unit=" steps", disable=None, dynamic_ncols=True)
    hooks = [Hook(training.log_every, lambda state, step: _show(bar, run, step))]
    if isinstance(model, HasLogLikelihood) and training.eval_every:
      hooks.append(Hook(training.eval_every, run.validate))
    hooks.append(Hook(training.checkpoint_every, run.save))
    # Within the loop, signals let the step end, and the state be saved.
    with bar, Interruption() as interruption:
      state, ended = fit(step, state, loader, key=key, num_steps=training.num_steps,
                         steps_per_call=training.steps_per_call, unroll=training.unroll_call, window=run.window,
                         hooks=hooks, interrupted=interruption)
      run.save(state, int(state.step))
    return state, ended

  return Plan(initial, loader, train)


def _plan_solve(config: ml_collections.ConfigDict, dataset: Dataset, model: Any) -> Plan:
  """A fit in closed form or by EM; an interrupted one starts again, since it takes seconds."""
  key = jax.random.key(config.seed)

  def state_at(step: int, params, carry) -> TrainState:
    return TrainState(jax.numpy.asarray(step, jax.numpy.int32), params, carry, {}, {})

  def train(run: Run, state: TrainState) -> tuple[TrainState, Ended]:
    iterations = int(state.step)
    if iterations:  # it was killed between its last save and the end
      run.save(state, iterations)
      return state, Ended.FINISHED
    iterations = 1

    def report(iteration: int, metrics: Mapping[str, float]) -> None:
      nonlocal iterations
      iterations = max(iterations, iteration)
      run.log_training(iteration, metrics)
      _show(bar, run, iteration)

    # The delay keeps back the bar of a closed form, which has no iterations.
    with tqdm(unit=" iterations", disable=None, dynamic_ncols=True, delay=0.01) as bar:
      params, carry = model.solve(stream_key(key, "solve", 0), Passes(dataset, config.evaluation.batch_size), report)
    state = state_at(iterations, params, carry)
    with Interruption():  # from here on it is as good as done
      run.validate(state, iterations)
      run.save(state, iterations)
    return state, Ended.FINISHED

  return Plan(state_at(0, *model.init(key, dataset.split("train").rows(slice(0, 1)))), None, train)


def _show(bar: tqdm, run: Run, step: int) -> None:
  """The step, loss and best validation: in the progress bar, or as a line where there is no terminal."""
  best = "" if run.progress.best_nats is None else f", best valid {run.progress.best_nats:.6g} nats"
  text = f"loss {run.last_loss:.6g}{best}"
  if not bar.disable:
    bar.set_postfix_str(text, refresh=False)
    bar.update(step - bar.n)
  elif bar.total or step % 10 == 0:  # EM has a row for each iteration
    print(f"step {step}{f'/{bar.total}' if bar.total else ''}: {text}", flush=True)


def _headline(run: Run, state: TrainState) -> str:
  dataset, spec = run.dataset, run.dataset.spec
  values = f"{spec.levels} levels" if spec.is_discrete else "continuous"
  sizes = "/".join(str(dataset.num_examples(split)) for split in dataset.splits)
  return (f"{run.config.model.name} on {dataset.name} ({'x'.join(map(str, spec.event))}, {values}, {sizes} examples), "
          f"{count_parameters(state.params):,} parameters, {jax.device_count()} {jax.default_backend()} device(s)")


def _finish(run: Run, step: int, ended: Ended) -> None:
  """Draws the pictures, and only then calls the run finished, so that a kill before leaves something to resume."""
  progress = run.progress
  draw_curves(run.workdir, f"{run.config.model.name} on {run.dataset.name}")
  draw_model(run.workdir, load_run(run.workdir, {}, dataset=run.dataset))
  write_json(run.workdir.finished, {"step": step, "ended": str(ended), **dataclasses.asdict(progress)})
  best = f", best validation {progress.best_nats:.4f} nats at step {progress.best_step}" if progress.best_step else ""
  early = " by early stopping" if ended is Ended.STOPPED else ""
  print(f"finished{early} at step {step} after {progress.train_seconds:.1f} s{best}.")


if __name__ == "__main__":
  cli.run(main)
