"""A workdir: one run's config, checkpoints, metrics and results, and nothing of any other run."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from gdm.data.load import source_of
from gdm.errors import ConfigError, WorkdirError
from gdm.paths import fault_of_folder, local_path, write_whole
from gdm.runs.claims import CONFIG, LEASES, LOCK, leased_bucket, locked_folder
from gdm.runs.registry import complete
from gdm.runs.settings import flatten_fields, with_defaults
from gdm.storage import mirror_of
from gdm.training.checkpoint import MANIFEST, list_steps

# Settings that may differ between training and later uses, and what belongs to the machine: devices, where data lie.
FREE_SECTIONS = ("evaluation", "sampling", "mesh", "search", "searched")
FREE_FIELDS = ("data.data_dir", "training.stall_seconds", "training.track")
# What training writes into a workdir, beside what `Workdir` names.
PICTURES = ("curves.png", "samples.png", "density.png", "landscape.png", "scores.png")

NUM_STEPS = "training.num_steps"


class Workdir:
  """The places of a workdir.

  Attributes:
    path: the folder; of a workdir in a bucket its local copy.
    name: the folder or URL, for messages.
    mirror: what sends the copy to its bucket; None of a folder of this machine.

  Raise WorkdirError for a path in which nothing could be saved and read back, and StorageError for such a URL.
  """

  def __init__(self, path: str | Path):
    self.mirror = mirror_of(path, "workdir")
    self._fetched = False
    try:
      self.path = local_path(path, "workdir").absolute() if self.mirror is None else self.mirror.path
    except ConfigError as error:
      raise WorkdirError(str(error)) from error
    if fault := fault_of_folder(self.path):
      raise WorkdirError(f"workdir is {str(path)!r}, {fault}")
    self.name = str(self.path if self.mirror is None else self.mirror.url)
    self.config = self.path / CONFIG
    self.metrics = self.path / "metrics.jsonl"
    self.tensorboard = self.path / "tensorboard"
    self.checkpoints = self.path / "checkpoints"
    self.best = self.path / "best"
    self.finished = self.path / "finished.json"

  @contextlib.contextmanager
  def claim(self, config: ml_collections.ConfigDict) -> Iterator[None]:
    """Claim the workdir for one training process of this config; a fresh one is left as it was until `record`.

    Raises:
      WorkdirError: it is a file, not writable, in use, foreign, belongs to a run with another config, or holds a folder
        where training writes a file, or the reverse.
    """
    if self.mirror is not None:
      with leased_bucket(self.mirror):
        self._fetched = True
        self.path.mkdir(parents=True, exist_ok=True)
        self._require_same(config)
        yield
      return
    if self.path.exists() and not self.path.is_dir():
      raise WorkdirError(f"workdir {self.path} is a file; name a folder.")
    self._require_kinds()
    with locked_folder(self.path):
      self._require_same(config)
      yield

  def fetch(self) -> None:
    """Fetch what a workdir in a bucket holds, but for checkpoints; once. Raise StorageError where it cannot be."""
    if self.mirror is not None and not self._fetched:
      self.mirror.fetch_files()
      self._fetched = True

  def fetch_step(self, place: str, step: int) -> None:
    """Fetch a checkpoint, where the workdir is in a bucket and this process does not have it yet."""
    if self.mirror is not None and not (self.path / place / str(step) / MANIFEST).exists():
      self.mirror.fetch_step(place, step)

  def begin(self, config: ml_collections.ConfigDict) -> None:
    """Record the config, and that the run is not finished."""
    self.record(config)
    if self.mirror is None:
      self.finished.unlink(missing_ok=True)
    else:
      self.mirror.delete(self.finished.name)
      self.mirror.push_files()

  def record(self, config: ml_collections.ConfigDict) -> None:
    """Write `config.json`: from here on the workdir belongs to this config."""
    if not self.config.exists() or self.grown_from(config) is not None:
      write_json(self.config, config.to_dict())

  def grown_from(self, config: ml_collections.ConfigDict) -> int | None:
    """Return how many steps the run was to have, where the config asks for more; else None."""
    if not self.config.exists():
      return None
    before = self.read_config().training.num_steps
    return before if before < config.training.num_steps else None

  def has_moved_data(self, config: ml_collections.ConfigDict) -> bool:
    """Return whether the config says that the data lie elsewhere than recorded."""
    return self.config.exists() and _place_of(self.read_config()) != _place_of(config)

  def read_config(self) -> ml_collections.ConfigDict:
    """Return the config of the run, fields that it does not know yet at their defaults.

    Raises:
      WorkdirError: there is none, or it is damaged.
    """
    self.fetch()
    if not self.config.is_file():
      have = ("has a folder config.json where a file must be" if self.config.is_dir() else
              "has no config.json" if self.path.is_dir() else "is a file" if self.path.exists() else "does not exist")
      raise WorkdirError(f"workdir {self.name} {have}; name a folder that experiments.train made.")
    try:
      return with_defaults(tuples(read_json(self.config)))
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # what ConfigDict raises for a field's type
      raise WorkdirError(f"{self.config} does not hold a config of this version: {error}") from error

  def has_checkpoints(self) -> bool:
    """Return whether training has saved anything here, whole or not."""
    return any(list_steps(place) for place in (self.checkpoints, self.best))

  def finished_step(self) -> int | None:
    """Return the step at which the run ended, None where it has not. Raise WorkdirError where its record is
    damaged."""
    self.fetch()
    if not self.finished.exists():
      return None
    record = read_json(self.finished)
    if not isinstance(record.get("step"), int):
      raise WorkdirError(f"{self.finished} names no step; delete it, and the same command finishes the run again.")
    return record["step"]

  def _require_kinds(self) -> None:
    """Raise WorkdirError where a folder lies in the place of a file that training writes, or the reverse."""
    files = [self.config, self.metrics, self.finished, self.path / LOCK, *(self.path / name for name in PICTURES)]
    for place in files:
      if place.exists() and not place.is_file():
        raise WorkdirError(f"{place} is a folder, where training writes a file; move it away, or name another workdir.")
    for place in (self.checkpoints, self.best, self.tensorboard, self.path / "damaged"):
      if place.exists() and not place.is_dir():
        raise WorkdirError(f"{place} is a file, where training makes a folder; move it away, or name another workdir.")

  def _require_same(self, config: ml_collections.ConfigDict) -> None:
    """Raise WorkdirError unless the workdir is fresh, or was made with the same training fields."""
    if not self.config.exists():
      if foreign := sorted(p.name for p in self.path.iterdir() if p.name not in (LOCK, LEASES)):
        raise WorkdirError(f"workdir {self.name} holds {', '.join(foreign[:3])} but no config.json; name an empty "
                           "folder or one of gdm's.")
      return
    old, new = training_fields(self.read_config()), training_fields(config)
    if old["model.name"] != new["model.name"]:  # the fields of two models have nothing to do with each other
      old, new = ({name: value for name, value in fields.items() if name == "model.name" or name[:6] != "model."}
                  for fields in (old, new))
    differ = [f"{name}: {_shortened(_show(old, name))} there, {_shortened(_show(new, name))} now"
              for name in sorted(old.keys() | new.keys())
              if _show(old, name) != _show(new, name) and not (name == NUM_STEPS and old[name] < new[name])]
    if differ:
      hint = " The number of steps may only grow." if differ[0].startswith(NUM_STEPS) and len(differ) == 1 else ""
      raise WorkdirError(f"workdir {self.name} belongs to another config ({'; '.join(differ)}); name another "
                         f"workdir.{hint}")


def training_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Return the dotted fields that determine training, those left out at their defaults."""
  full = with_defaults(tuples(config.to_dict())).to_dict()
  if full["model"]["name"]:
    with contextlib.suppress(ConfigError):  # a model of another version, which is refused where it is built
      full["model"] = complete(full["model"])
  # Where data lie is free, what they are is not: that is told by their fingerprint.
  full["data"] |= {"name": source_of(full["data"]["name"], full["data"]["path"]), "path": ""}
  return {name: value for name, value in flatten_fields(full).items()
          if name.partition(".")[0] not in FREE_SECTIONS and name not in FREE_FIELDS}


def _place_of(config: ml_collections.ConfigDict) -> tuple[str, str]:
  return config.data.name, config.data.path


def read_json(path: Path) -> dict[str, Any]:
  """Return the object in a JSON file. Raise WorkdirError where it is damaged."""
  try:
    value = json.loads(path.read_text())
  except OSError as error:
    raise WorkdirError(f"{path} cannot be read: {error.strerror}.") from error
  except ValueError as error:  # not JSON, or not UTF-8
    raise WorkdirError(f"{path} is damaged, it is not valid JSON ({error}); restore it, or name another "
                       "workdir.") from error
  if not isinstance(value, dict):
    raise WorkdirError(f"{path} is damaged, it holds no JSON object; restore it, or name another workdir.")
  return value


def write_json(path: Path, value: Any) -> None:
  """Write JSON that is there whole or not at all."""
  text = json.dumps(value, indent=2, allow_nan=False) + "\n"
  write_whole(path, lambda file: file.write(text.encode()))


def _show(fields: Mapping[str, Any], name: str) -> str:
  return repr(fields[name]) if name in fields else "absent"


def _shortened(text: str) -> str:
  """Return a value's text as a message of one line shows it: a component of a mixture has a page of them."""
  return text if len(text) <= 60 else f"{text[:57]}..."


def tuples(value: Any) -> Any:
  """JSON knows no tuples and configs no lists: lists become tuples, at any depth."""
  if isinstance(value, Mapping):
    return {name: tuples(item) for name, item in value.items()}
  return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value
