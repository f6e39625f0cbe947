"""One training run: what stands beside its state on disk, and what happens between its steps."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
from jax.sharding import Mesh

from gdm import mesh as meshes
from gdm.batches import padded_size
from gdm.data.dataset import Dataset
from gdm.data.description import Description
from gdm.data.loader import eval_batches
from gdm.errors import CheckpointError, NotFiniteError, WorkdirError
from gdm.evaluation.criteria import evaluate_criteria
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.model import HasLogLikelihood, HasValidation, KeepsNewest, Model
from gdm.runs.events import Events
from gdm.runs.feeding import Feed
from gdm.runs.recorded import require_same_data
from gdm.runs.settings import flatten_fields
from gdm.runs.trackers import NO_TRACKER, Tracker
from gdm.runs.workdir import Workdir
from gdm.training import checkpoint, hosts
from gdm.training.metrics import MetricsFile, MetricsWindow
from gdm.training.state import TrainState
from gdm.training.streams import stream_key


@dataclasses.dataclass
class Progress:
  """Knowledge of a run beside its state; part of every checkpoint."""

  # Best `pessimistic_nats` of the validation split so far, mean nats per example; of a model without a likelihood minus
  # the mean of its criterion.
  best_nats: float | None = None
  criterion: str = ""  # name of that, "" where it is nats
  best_step: int = 0
  worse: int = 0  # validations since
  validated: int = 0  # step of the newest validation
  train_seconds: float = 0.0

  def best(self, form: str = ".6g") -> str:
    """Return the best validation in words, its number in the given format; "" before the first."""
    if self.best_nats is None:
      return ""
    return f"{self.criterion} {-self.best_nats:{form}}" if self.criterion else f"{self.best_nats:{form}} nats"


class Validation(NamedTuple):
  """What a validation found.

  Attributes:
    rank: the higher, the better: nats, or minus the criterion.
    numbers: for the logs, by name; None where there is none.
    criterion: name of the number that decides; "" for nats.
  """

  rank: float
  numbers: Mapping[str, float | None]
  criterion: str = ""


class Run:
  """A run under way in a claimed workdir. As a context manager it ends with every save sealed, but for Ctrl-C.

  Of several processes each has its own, and all do the same; the first one writes the logs.
  """

  def __init__(self, config: ml_collections.ConfigDict, workdir: Workdir, dataset: Dataset, model: Model,
               loader: Feed | None, mesh: Mesh, tracker: Tracker = NO_TRACKER):
    self.config, self.workdir, self.dataset, self.model, self.loader = config, workdir, dataset, model, loader
    self.mesh = mesh
    self.data = Description.of(dataset).to_json()
    self.progress = Progress()
    self.best = checkpoint.Checkpointer(workdir.best, mirror=workdir.mirror)
    # A checkpoint names the best so far, which must then be there.
    self.checkpoints = checkpoint.Checkpointer(workdir.checkpoints, keep=config.training.keep, after=self.best,
                                               mirror=workdir.mirror)
    self.window = MetricsWindow(config.training.log_every, self.log_training)
    self.last_loss = float("nan")
    self._files: tuple[MetricsFile, Events] | None = None
    self.tracker = tracker
    self._since = time.monotonic()

  def __enter__(self) -> "Run":
    return self

  def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
    if isinstance(error, KeyboardInterrupt):
      return  # at once: a save that was cut could be waited for in vain
    if error is None:
      self.checkpoints.finish()
      self._drop_old_bests()
    for part in (self.checkpoints, self.best, *(self._files or ())):
      try:
        part.close()
      except Exception:
        if error is None:  # else this is most likely the same trouble, a full disk say
          raise

  @property
  def out_of_patience(self) -> bool:
    return 0 < self.config.training.patience <= self.progress.worse

  def resume(self, like: TrainState, begin: Callable[[], TrainState]) -> TrainState:
    """Return the newest whole checkpoint, or what `begin` gives where nothing was saved; opens the logs there.

    Args:
      like: shapes and shardings of the state.
      begin: makes the first state.

    Raises:
      CheckpointError: there were checkpoints and every one is damaged, or they are of another model.
      WorkdirError: the data are not those of the checkpoint.
    """
    place, step = hosts.from_first(self._newest_good)
    if step is None:
      state = begin()
    else:
      self.workdir.fetch_step(place, step)
      restored = checkpoint.restore(self.workdir.path / place, step, like)
      require_same_data(self.workdir.path, self.dataset, restored.meta["data_identity"],
                        (*self.dataset.splits, "vocabulary"))
      state, self.progress = restored.state, Progress(**restored.meta["progress"])
      self.window.set_state(restored.meta["window"])
      if self.loader is not None:
        self.loader.set_state(restored.meta["loader"])
      print(f"resuming from step {step}.")
    self.checkpoints.set_aside_damaged()
    self.best.set_aside_damaged()
    validated = self.progress.validated
    self.best.retain([kept for kept in self.best.steps() if kept <= validated])  # later ones will be found again
    if self.progress.best_step not in self.best.steps():
      self.progress.best_nats, self.progress.best_step = None, 0  # it was damaged: the next validation sets a new best
    # EM logs a row 0, before its first step.
    first = 0 if step is None else step + 1
    if hosts.is_first():
      self._files = (MetricsFile(self.workdir.metrics, last_step=first - 1, last_validation=validated),
                     Events(self.workdir.tensorboard, first))
      best = "valid/nats" if isinstance(self.model, HasLogLikelihood) else "train/loss"
      self._files[1].settings(flatten_fields(self.config.to_dict()), {best: 0.0})
    self._since = time.monotonic()
    return state

  def save(self, state: TrainState, step: int) -> None:
    """Save a checkpoint."""
    self._save_to(self.checkpoints, state, step)

  def score(self, state: TrainState, step: int) -> Validation:
    """Score the validation split, and change nothing."""
    settings = self.config.evaluation
    params, carry = state.averaged
    size = meshes.round_up(self.mesh, padded_size(self.dataset.num_examples("valid"), settings.batch_size))
    batches = eval_batches(self.dataset, "valid", size, rows=meshes.local_rows(self.mesh, size))
    key = stream_key(jax.random.key(self.config.seed), "validation", step)
    try:
      if isinstance(self.model, HasValidation):
        found = evaluate_criteria(self.model, params, carry, batches, key=key, mesh=self.mesh)
        return Validation(-found[self.model.criterion], found, self.model.criterion)
      score = evaluate_likelihood(self.model, params, carry, batches, key=key, num_draws=settings.num_draws,
                                  num_samples=settings.num_samples, mesh=self.mesh)
    except NotFiniteError as error:
      raise NotFiniteError(f"validation at step {step}: {error}") from error

    by_log_z = None if score.upper_end is None else score.upper_end.nats_mean
    return Validation(score.pessimistic_nats, {"nats": score.nats_mean, "bits_per_dim": score.bits_per_dim,
                                               "nats_by_log_z": by_log_z})

  def judge(self, found: Validation, state: TrainState, step: int) -> bool:
    """Log a validation; keeps the best state; true when patience is spent."""
    self._log(step, {f"valid/{name}": value for name, value in found.numbers.items()})
    is_newest_best = isinstance(self.model, KeepsNewest) and self.model.keeps_newest
    self.progress.criterion, self.progress.validated = found.criterion, step
    if is_newest_best or self.progress.best_nats is None or found.rank > self.progress.best_nats:
      self._drop_old_bests()  # now, since after the save it would wait for it
      self.progress.best_nats, self.progress.best_step, self.progress.worse = found.rank, step, 0
      self._save_to(self.best, state, step)
    else:
      self.progress.worse += 1
    return self.out_of_patience

  def log_training(self, step: int, row: Mapping[str, float]) -> None:
    """Log a row of training metrics, and seals what was saved meanwhile."""
    self.last_loss = next((value for name, value in row.items() if name.endswith(("loss", "nll"))), self.last_loss)
    self._log(step, {f"train/{name}": value for name, value in row.items()})
    self.best.poll()
    self.checkpoints.poll()
    if self.workdir.mirror is not None and hosts.is_first():
      self.workdir.mirror.push_logs()

  def last_good_step(self) -> int | None:
    """Return the step of the newest checkpoint, once the save under way is sealed."""
    self.checkpoints.finish()
    return hosts.from_first(lambda: checkpoint.newest_good_step(self.workdir.checkpoints))

  def _save_to(self, place: checkpoint.Checkpointer, state: TrainState, step: int) -> None:
    now = time.monotonic()
    self.progress.train_seconds += now - self._since
    self._since = now
    place.save(step, state, self.meta(state))

  def _drop_old_bests(self) -> None:
    """Drop the bests that no kept checkpoint goes back to; one under way goes back to the best so far."""
    kept = self.checkpoints.steps()
    bests = hosts.from_first(lambda: [checkpoint.read_meta(self.workdir.checkpoints, step)["progress"]["best_step"]
                                      for step in kept])
    self.best.retain({self.progress.best_step, *bests})

  def meta(self, state: TrainState) -> dict[str, Any]:
    """Return the record stored beside the state."""
    return {
        "config": self.config.to_dict(),
        "data": self.data,
        "data_identity": self.data["identity"],
        "has_ema": bool(state.ema),
        "loader": self.loader.get_state() if self.loader is not None else {},
        "progress": dataclasses.asdict(self.progress),
        "train_seconds": self.progress.train_seconds,
        "window": self.window.get_state(),
    }

  def _log(self, step: int, row: Mapping[str, float | None]) -> None:
    if self._files is None:  # not the first process
      return
    metrics, events = self._files
    values = {name: value for name, value in row.items() if value is not None}
    try:
      metrics.write({"step": step, **values})
      events.write(step, values)
      self.tracker.write(step, values)
    except OSError as error:
      raise WorkdirError(f"the logs in {self.workdir.path} cannot be written: {error.strerror}; what was saved before "
                         "stays.") from error

  def _newest_good(self) -> tuple[str, int | None]:
    """Return the checkpoint to go on from: the newest whole one, the best one where the others are damaged.

    Raise CheckpointError where finished saves are all damaged: to start over must be the user's decision.
    """
    places = (self.workdir.checkpoints, self.workdir.best)
    for place in places:
      if (step := checkpoint.newest_good_step(place)) is not None:
        return place.name, step
    if any((place / str(step) / checkpoint.MANIFEST).exists()
           for place in places for step in checkpoint.list_steps(place)):
      raise CheckpointError(f"no checkpoint of {self.workdir.path} is whole any more; restore one, or name another "
                            "workdir to start over.")
    return places[0].name, None
