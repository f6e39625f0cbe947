"""Trains one model from a config into a workdir; the same command again resumes.

  python -m experiments.train --config=configs/autoregressive/made.py:digits --workdir=runs/made
      [--config.optimizer.learning_rate=3e-4 ...]

Exit codes: 0 finished, 2 bad input, 75 interrupted and saved: run it again to resume.
"""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
from absl import flags
from ml_collections import config_flags
from tensorboardX import SummaryWriter
from tqdm import tqdm

from experiments import cli
from experiments.pictures import draw_curves, draw_model
from experiments.registry import build_model
from experiments.workdir import Workdir, load_data, load_run, require_same_data, write_json
from gdm.data.dataset import Dataset
from gdm.data.loader import Loader, Passes, eval_batches
from gdm.errors import NotFiniteError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.model import HasLogLikelihood, HasSolve, Model
from gdm.training import checkpoint
from gdm.training.loop import Ended, Hook, fit
from gdm.training.metrics import MetricsFile, MetricsWindow
from gdm.training.optimizer import make_optimizer
from gdm.training.preemption import Interruption
from gdm.training.state import TrainState, count_parameters, init_state, optimizers_for
from gdm.training.step import make_train_step
from gdm.training.streams import stream_key

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<family>/<model>.py:<dataset>", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; made if absent.")


@dataclasses.dataclass
class Progress:
  """What the run knows beside its state; part of every checkpoint."""

  best_nats: float | None = None  # best mean log-likelihood on the validation split so far, in nats
  best_step: int = 0
  worse: int = 0  # validations since
  train_seconds: float = 0.0


class Run:
  """One training run: the state's neighbours on disk, and what happens between steps."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: Workdir, dataset: Dataset, model: Model):
    self.config, self.workdir, self.dataset, self.model = config, workdir, dataset, model
    self.progress = Progress()
    self.checkpoints = checkpoint.Checkpointer(workdir.checkpoints, keep=config.training.keep)
    self.best = checkpoint.Checkpointer(workdir.best)
    self.window = MetricsWindow(config.training.log_every, self._log_training)
    self.loader: Loader | None = None
    self.last_loss = float("nan")
    self.key = jax.random.key(config.seed)
    self._since = time.monotonic()

  def resume(self, state: TrainState) -> TrainState:
    """The newest whole checkpoint in place of `state`, or `state` where there is none; opens the logs there."""
    step = checkpoint.newest_good_step(self.workdir.checkpoints)
    self.checkpoints.set_aside_damaged()
    self.best.set_aside_damaged()
    self.best.retain([kept for kept in self.best.steps() if kept <= (step or 0)])  # later ones will be found again
    if step is not None:
      restored = checkpoint.restore(self.workdir.checkpoints, step, state)
      require_same_data(self.workdir, self.dataset, restored.meta)
      state, self.progress = restored.state, Progress(**restored.meta["progress"])
      if self.progress.best_step not in self.best.steps():
        self.progress.best_nats = None  # it was damaged: the next validation sets a new best
      self.window.set_state(restored.meta["window"])
      if self.loader is not None:
        self.loader.set_state(restored.meta["loader"])
      print(f"resuming from step {step}.")
    self.metrics = MetricsFile(self.workdir.metrics, last_step=step or 0)
    self.events = SummaryWriter(str(self.workdir.tensorboard), purge_step=(step or 0) + 1)
    self._since = time.monotonic()
    return state

  def save(self, state: TrainState, step: int) -> None:
    """Saves a checkpoint, and drops the bests that no kept checkpoint goes back to."""
    self._save_to(self.checkpoints, state, step)
    metas = [checkpoint.read_meta(self.workdir.checkpoints, kept) for kept in self.checkpoints.steps()]
    self.best.retain({self.progress.best_step, *(meta["progress"]["best_step"] for meta in metas)})

  def validate(self, state: TrainState, step: int) -> bool:
    """Scores the validation split; keeps the best state; true when patience is spent."""
    settings = self.config.evaluation
    params, carry = state.averaged
    score = evaluate_likelihood(
        self.model, params, carry, eval_batches(self.dataset, "valid", settings.batch_size),
        key=stream_key(self.key, "validation", step), num_draws=settings.num_draws, num_samples=settings.num_samples)
    self._log(step, {"valid/nats": score.nats_mean, "valid/bits_per_dim": score.bits_per_dim})
    if self.progress.best_nats is None or score.nats_mean > self.progress.best_nats:
      self.progress.best_nats, self.progress.best_step, self.progress.worse = score.nats_mean, step, 0
      self._save_to(self.best, state, step)
    else:
      self.progress.worse += 1
    return 0 < self.config.training.patience <= self.progress.worse

  def close(self) -> None:
    for part in (self.checkpoints, self.best, self.metrics, self.events):
      part.close()

  def _save_to(self, place: checkpoint.Checkpointer, state: TrainState, step: int) -> None:
    now = time.monotonic()
    self.progress.train_seconds += now - self._since
    self._since = now
    place.save(step, state, {
        "config": self.config.to_dict(),
        "data_identity": self.dataset.split("train").identity,
        "has_ema": bool(state.ema),
        "loader": self.loader.get_state() if self.loader is not None else {},
        "progress": dataclasses.asdict(self.progress),
        "train_seconds": self.progress.train_seconds,
        "window": self.window.get_state(),
    })

  def _log_training(self, step: int, row: Mapping[str, float]) -> None:
    self.last_loss = row.get("loss", row.get("nll", self.last_loss))
    self._log(step, {f"train/{name}": value for name, value in row.items()})

  def _log(self, step: int, row: Mapping[str, float | None]) -> None:
    values = {name: value for name, value in row.items() if value is not None}
    self.metrics.write({"step": step, **values})
    for name, value in values.items():
      self.events.add_scalar(name, value, step)


def main(argv: Sequence[str]) -> int:
  cli.require_flag("config")
  workdir, config = Workdir(cli.require_flag("workdir")), _CONFIG.value
  dataset = load_data(config)
  model = build_model(config.model.to_dict(), dataset.spec)
  with workdir.open_for_training(config), Interruption() as interruption:
    if workdir.finished.exists():
      print(f"{workdir.path} is finished already, at step {json.loads(workdir.finished.read_text())['step']}.")
      return 0
    run = Run(config, workdir, dataset, model)
    train = _solve if isinstance(model, HasSolve) else _fit
    try:
      state, ended = train(run, interruption)
    except NotFiniteError as error:
      good = checkpoint.newest_good_step(workdir.checkpoints)
      kept = "there is no checkpoint yet" if good is None else f"the last good checkpoint, step {good}, is kept"
      raise NotFiniteError(f"{error} Training stopped; {kept}. A smaller optimizer.learning_rate or "
                           "optimizer.clip_norm may help.") from error
    run.close()
    if ended is Ended.INTERRUPTED:
      print(f"interrupted and saved at step {int(state.step)}; the same command resumes.")
      return cli.EXIT_RESUME_ME
    _finish(run, state, ended)
  return 0


def _fit(run: Run, interruption: Interruption) -> tuple[TrainState, Ended]:
  """Trains by gradient steps."""
  config, model = run.config, run.model
  training = config.training
  minibatches = sum(objective.repeats for objective in model.objectives)
  run.loader = Loader(run.dataset, config.data.batch_size, seed=config.seed, minibatches=minibatches)
  optimizer = make_optimizer(config.optimizer, training.num_steps)
  optimizers = optimizers_for(model, optimizer)
  example = run.dataset.split("train").rows(slice(0, config.data.batch_size))
  state = run.resume(init_state(model, optimizers, run.key, example, ema=training.ema_decay > 0))
  print(_headline(run, state))
  step = make_train_step(model, optimizers, ema_decay=training.ema_decay, accumulate=training.accumulate,
                         unroll=training.unroll)
  with tqdm(total=training.num_steps, initial=int(state.step), unit="step", disable=None, dynamic_ncols=True) as bar:
    hooks = [Hook(training.log_every, lambda state, step: _show(bar, run, step))]
    if isinstance(model, HasLogLikelihood) and training.eval_every:
      hooks.append(Hook(training.eval_every, run.validate))
    hooks.append(Hook(training.checkpoint_every, run.save))
    state, ended = fit(step, state, run.loader, key=run.key, num_steps=training.num_steps,
                       steps_per_call=training.steps_per_call, unroll=training.unroll, window=run.window, hooks=hooks,
                       interrupted=interruption)
  run.save(state, int(state.step))
  return state, ended


def _solve(run: Run, interruption: Interruption) -> tuple[TrainState, Ended]:
  """Fits in closed form or by EM; an interrupted fit starts again, since it takes seconds."""
  model: Any = run.model

  def initial(params, carry, step):
    return TrainState(jax.numpy.asarray(step, jax.numpy.int32), params, carry, {}, {})

  example = run.dataset.split("train").rows(slice(0, 1))
  state = run.resume(initial(*model.init(run.key, example), 0))
  print(_headline(run, state))
  if int(state.step):
    return state, Ended.FINISHED
  iterations = 1

  def report(iteration: int, metrics: Mapping[str, float]) -> None:
    nonlocal iterations
    iterations = max(iterations, iteration)
    run._log_training(iteration, metrics)
    bar.update(1)
    if interruption():
      raise KeyboardInterrupt

  with tqdm(unit="iteration", disable=None, dynamic_ncols=True) as bar:
    params, carry = model.solve(stream_key(run.key, "solve", 0), Passes(run.dataset, run.config.evaluation.batch_size),
                                report)
  state = initial(params, carry, iterations)
  run.validate(state, iterations)
  run.save(state, iterations)
  return state, Ended.FINISHED


def _show(bar: tqdm, run: Run, step: int) -> None:
  bar.update(step - bar.n)
  best = "" if run.progress.best_nats is None else f", best valid {run.progress.best_nats:.4f} nats"
  bar.set_postfix_str(f"loss {run.last_loss:.4f}{best}", refresh=False)


def _headline(run: Run, state: TrainState) -> str:
  dataset, spec = run.dataset, run.dataset.spec
  values = f"{spec.levels} levels" if spec.is_discrete else "continuous"
  sizes = "/".join(str(dataset.num_examples(split)) for split in dataset.splits)
  return (f"{run.config.model.name} on {dataset.name} ({'x'.join(map(str, spec.event))}, {values}, {sizes} examples), "
          f"{count_parameters(state.params):,} parameters, {jax.device_count()} {jax.default_backend()} device(s)")


def _finish(run: Run, state: TrainState, ended: Ended) -> None:
  progress, step = run.progress, int(state.step)
  best = f", best validation {progress.best_nats:.4f} nats at step {progress.best_step}" if progress.best_step else ""
  early = " by early stopping" if ended is Ended.STOPPED else ""
  write_json(run.workdir.finished, {"step": step, "ended": str(ended), **dataclasses.asdict(progress)})
  draw_curves(run.workdir, f"{run.config.model.name} on {run.dataset.name}")
  draw_model(run.workdir, load_run(run.workdir, {}, dataset=run.dataset))
  print(f"finished{early} at step {step} after {progress.train_seconds:.1f} s{best}.")


if __name__ == "__main__":
  cli.run(main)
