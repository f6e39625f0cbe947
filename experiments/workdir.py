"""A workdir: one run's config, checkpoints, metrics and results, and nothing of any other run."""

import dataclasses
import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import jax
import ml_collections

from experiments.registry import build_model
from gdm.data.dataset import Dataset
from gdm.data.load import load_dataset
from gdm.errors import CheckpointError, ConfigError, WorkdirError
from gdm.model import Carry, Model, Params
from gdm.training import checkpoint
from gdm.training.state import averages_of

# Settings that may differ between training and later uses, and where data lies, which moves with the machine.
FREE_SECTIONS = ("evaluation", "sampling")
FREE_FIELDS = ("data.data_dir",)


class Workdir:
  """The places of a workdir."""

  def __init__(self, path: str | Path):
    self.path = Path(path).absolute()
    self.config = self.path / "config.json"
    self.metrics = self.path / "metrics.jsonl"
    self.tensorboard = self.path / "tensorboard"
    self.checkpoints = self.path / "checkpoints"
    self.best = self.path / "best"
    self.finished = self.path / "finished.json"
    self.summary = self.path / "training.json"

  def open_for_training(self, config: ml_collections.ConfigDict) -> IO:
    """Claims the workdir for one training process and records the config; returns the lock, to be kept open.

    Raises:
      WorkdirError: it is a file, not writable, in use, or belongs to a run with another config.
    """
    if self.path.exists() and not self.path.is_dir():
      raise WorkdirError(f"workdir {self.path} is a file; name a folder.")
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      lock = (self.path / ".lock").open("a")
    except OSError as error:
      raise WorkdirError(f"workdir {self.path} cannot be written: {error.strerror}.") from error
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      lock.close()
      raise WorkdirError(f"workdir {self.path} is in use by another process.") from error
    if self.config.exists():
      self._require_same(config)
    elif foreign := sorted(p.name for p in self.path.iterdir() if p.name != ".lock"):
      raise WorkdirError(f"workdir {self.path} holds {', '.join(foreign[:3])} but no config.json; name an empty folder "
                         "or one of gdm's.")
    else:
      write_json(self.config, config.to_dict())
    return lock

  def read_config(self) -> ml_collections.ConfigDict:
    """The config of the run. Raises WorkdirError where there is none."""
    if not self.config.is_file():
      raise WorkdirError(f"workdir {self.path} has no config.json; it was not made by experiments.train.")
    try:
      return ml_collections.ConfigDict(_tuples(json.loads(self.config.read_text())))
    except ValueError as error:
      raise WorkdirError(f"{self.config} is not valid JSON: {error}.") from error

  def _require_same(self, config: ml_collections.ConfigDict) -> None:
    old, new = training_fields(self.read_config()), training_fields(config)
    missing = "(absent)"
    differ = [f"{name}: {old.get(name, missing)!r} there, {new.get(name, missing)!r} now"
              for name in sorted(old.keys() | new.keys()) if old.get(name, missing) != new.get(name, missing)]
    if differ:
      raise WorkdirError(f"workdir {self.path} belongs to another config ({'; '.join(differ)}); name another workdir.")


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """A run read back from its workdir: enough to evaluate and sample."""

  config: ml_collections.ConfigDict
  dataset: Dataset
  model: Model
  params: Params
  carry: Carry
  step: int
  parameters: str
  train_seconds: float


def load_run(workdir: Workdir, overrides: Mapping[str, Any], which: str = "best",
             dataset: Dataset | None = None) -> TrainedRun:
  """Reads a run's config, data, and one of its checkpoints.

  Args:
    workdir: the run's workdir.
    overrides: dotted config fields to change: of evaluation, sampling, or where the data lies.
    which: "best" by validation ("last" where there is no best), "last", or a step.
    dataset: its data, where they are loaded already.
  """
  config = workdir.read_config()
  config.update_from_flattened_dict(overrides)
  dataset = dataset or load_data(config)
  model = build_model(config.model.to_dict(), dataset.spec)
  directory, step = choose_checkpoint(workdir, which)
  meta = checkpoint.read_meta(directory, step)
  require_same_data(workdir, dataset, meta)
  kept = ("ema", "live") if meta["has_ema"] else ("live",)
  wanted = config.evaluation.parameters
  if wanted not in ("auto", "ema", "live"):
    raise ConfigError(f"evaluation.parameters is {wanted!r}; it must be auto, ema or live.")
  chosen = kept[0] if wanted == "auto" else wanted
  if chosen not in kept:
    raise CheckpointError("evaluation.parameters is 'ema', but the run kept no averages (training.ema_decay is 0).")
  params, carry = restore_parameters(model, dataset, directory, step, ema=chosen == "ema")
  return TrainedRun(config, dataset, model, params, carry, step, chosen, meta["train_seconds"])


def load_data(config: ml_collections.ConfigDict) -> Dataset:
  """The dataset of the config's `data` section."""
  data = config.data
  return load_dataset(data.name, path=data.path, data_dir=data.data_dir, transforms=data.transforms, seed=config.seed)


def require_same_data(workdir: Workdir, dataset: Dataset, meta: Mapping[str, Any]) -> None:
  """Raises WorkdirError unless the training split is the one that the checkpoint was trained on."""
  now, then = dataset.split("train").identity, meta["data_identity"]
  if now != then:
    raise WorkdirError(f"the training split is {now} (its fingerprint), but {workdir.path} was trained on {then}; "
                       "restore that data, or name another workdir.")


def choose_checkpoint(workdir: Workdir, which: str) -> tuple[Path, int]:
  """The directory and step of the checkpoint that --checkpoint names."""
  if which == "best" and (step := checkpoint.newest_good_step(workdir.best)) is not None:
    return workdir.best, step
  if which in ("best", "last"):
    if (step := checkpoint.newest_good_step(workdir.checkpoints)) is not None:
      return workdir.checkpoints, step
    raise CheckpointError(f"workdir {workdir.path} has no whole checkpoint yet.")
  for directory in (workdir.checkpoints, workdir.best):
    if which.isdigit() and int(which) in checkpoint.list_steps(directory):
      return directory, int(which)
  known = sorted({*checkpoint.list_steps(workdir.checkpoints), *checkpoint.list_steps(workdir.best)})
  raise CheckpointError(f"--checkpoint is {which!r}; it must be best, last, or one of the steps {known}.")


def restore_parameters(model: Model, dataset: Dataset, directory: Path, step: int, ema: bool) -> tuple[Params, Carry]:
  """Parameters and carry of a checkpoint, live or averaged, without its optimizer state."""
  example = dataset.split("train").rows(slice(0, 1))
  params, carry = jax.eval_shape(model.init, jax.random.key(0), example)
  averaged = averages_of(params, carry)
  like = {"carry": carry, **({"ema": averaged} if ema else {"params": params})}
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like)
  state = checkpoint.restore(directory, step, like, partial=True).state
  if not ema:
    return state["params"], state["carry"]
  return state["ema"]["params"], {**state["carry"], **state["ema"]["carry"]}


def training_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The dotted fields that determine training."""
  return {name: value for name, value in flatten_fields(_tuples(config.to_dict())).items()
          if name.partition(".")[0] not in FREE_SECTIONS and name not in FREE_FIELDS}


def flatten_fields(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """{"a": {"b": 1}} -> {"a.b": 1}."""
  flat = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat |= flatten_fields(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat


def write_json(path: Path, value: Any) -> None:
  """Writes JSON that is there whole or not at all."""
  temporary = path.with_suffix(".tmp")
  temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
  temporary.replace(path)


def _tuples(value: Any) -> Any:
  """JSON knows no tuples and configs no lists: lists become tuples, at any depth."""
  if isinstance(value, Mapping):
    return {name: _tuples(item) for name, item in value.items()}
  return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
