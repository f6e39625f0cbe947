"""Choice of settings by the validation split within a stated time: successive halving.

Many settings are trained for a ninth of the steps, the best third of those for a third of the steps, and the best of
these is the one that is then trained in full (Jamieson and Talwalkar, arXiv:1502.07943). The config as it stands is
always among them; the others are drawn from the values that `config.search` lists. The test split plays no part.

A search keeps its record in `<workdir>_search/search.json`, one trial after another, so that a killed one goes on where
it was; the time that it has used is part of the record.
"""

import contextlib
import dataclasses
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from gdm.errors import ConfigError, NotFiniteError, WorkdirError
from gdm.runs.settings import check_settings, flatten_fields, replaced
from gdm.runs.sizes import keep_settings
from gdm.runs.workdir import Workdir, read_json, write_json

FRACTIONS = (1 / 9, 1 / 3)  # of the config's steps, one for each round
KEPT = 3  # one in so many goes on to the next round
MOST_TRIALS = 81  # in the first round, whatever the budget
SHARE = 0.6  # of the budget that the first round may use
SEED = 20241130  # of the order in which settings are tried

Settings = Mapping[str, Any]
# Trains a config in a workdir of its own and returns its best validation in nats.
Train = Callable[[ml_collections.ConfigDict, Workdir], float | None]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclasses.dataclass(frozen=True)
class Trial:
  """One setting, trained for a part of the steps.

  Attributes:
    round: 0 or 1.
    index: of the setting among the candidates; 0 is the config as it stands.
    settings: its dotted fields and their values.
    best_nats: best mean log-likelihood on the validation split, in nats; None where training failed.
    seconds: how long it took.
  """

  round: int
  index: int
  settings: Settings
  best_nats: float | None
  seconds: float


def parse_budget(text: str) -> float:
  """Return the seconds that "90s", "5m" or "1.5h" stand for. Raise ConfigError for anything else."""
  found = re.fullmatch(r"(\d+\.?\d*)([smh])", text)
  if not found or not float(found[1]):
    raise ConfigError(f"--search is {text!r}; it must be a time above 0, as 90s, 5m or 1h.")
  return float(found[1]) * _UNITS[found[2]]


def searched(config: ml_collections.ConfigDict, workdir: Workdir, budget: int | float, train: Train,
             tell: Callable[[str], None] = print) -> ml_collections.ConfigDict:
  """Return the config with the settings that validate best, and what was searched in its section `searched`.

  Args:
    config: the config; its section `search` gives each field's values.
    workdir: of the run that comes after; the search is kept beside it.
    budget: seconds for all trials together. The first trial is always made, however long it takes.
    train: trains one setting.
    tell: takes a line about each trial.

  Raises:
    ConfigError: the config lists no values to search, or one that cannot be.
    WorkdirError: the record is damaged, or of another search.
  """
  space = search_space(config)
  record = _Record(workdir.path.with_name(workdir.path.name + "_search"), config, budget, space)
  candidates = draw_candidates(space, MOST_TRIALS)
  for settings in candidates:
    check_settings(_with(config, settings))
  best = [0]
  for number, fraction in enumerate(FRACTIONS):
    indices = list(range(len(candidates))) if number == 0 else best
    best = _round(record, config, [(index, candidates[index]) for index in indices], number, fraction, train, tell)
  chosen = candidates[best[0]]
  record.close(chosen)
  shown = ", ".join(f"{name}={value}" for name, value in chosen.items()) or "the config as it stands"
  tell(f"search: {len(record.trials)} trials in {record.seconds:.0f} s; chosen: {shown}.")
  result = _with(config, chosen)
  result.searched = {"budget_seconds": budget, "seconds": round(record.seconds, 1), "num_trials": len(record.trials),
                     "chosen": shown}
  return result


def search_space(config: ml_collections.ConfigDict) -> dict[str, tuple]:
  """Return dotted field -> the values to try, from the section `search`.

  Raise ConfigError where there is none, or a field that the config lacks or that lists no values.
  """
  space, fields = flatten_fields(config.search.to_dict()), flatten_fields(config.to_dict())
  if not space:
    raise ConfigError(f"--search is given, but the config of {config.model.name} lists nothing to search; it must have "
                      "a section search, as {'model': {'dropout': (0.0, 0.5)}}.")
  for name, values in space.items():
    if name not in fields:
      raise ConfigError(f"search.{name} names no field of the config.")
    if not isinstance(values, tuple) or not values:
      raise ConfigError(f"search.{name} is {values!r}; it must be a tuple of values.")
  return space


def draw_candidates(space: Mapping[str, tuple], most: int) -> list[Settings]:
  """Return {}, the config as it stands, and after it up to `most` - 1 different combinations in random order."""
  sizes = [len(values) for values in space.values()]
  total = math.prod(sizes)
  order = np.random.Generator(np.random.Philox(SEED)).permutation(total)[:most - 1]
  places = np.unravel_index(order, sizes)
  return [{}, *({name: values[place] for (name, values), place in zip(space.items(), combination, strict=True)}
                for combination in zip(*places, strict=True))]


def _round(record: "_Record", config: ml_collections.ConfigDict, candidates: Sequence[tuple[int, Settings]],
           number: int, fraction: int | float, train: Train, tell: Callable[[str], None]) -> list[int]:
  """Run what the budget allows of a round, in order; returns the indices of its best third, best first."""
  until = record.budget * (SHARE if number + 1 < len(FRACTIONS) else 1.0)
  done: list[Trial] = []
  for index, settings in candidates:
    trial = record.find(number, index)
    if trial is None:
      mean = np.mean([trial.seconds for trial in done]) if done else 0.0
      if done and record.seconds + mean > until:
        break
      trial = record.run(number, index, settings, _shortened(config, settings, fraction), train)
      found = "failed" if trial.best_nats is None else f"{trial.best_nats:.4f} nats on the validation split"
      tell(f"search, round {number + 1}: {dict(settings) or 'as it stands'}: {found}, {trial.seconds:.0f} s")
    done.append(trial)
  ranked = sorted(done, key=lambda trial: -math.inf if trial.best_nats is None else trial.best_nats, reverse=True)
  if ranked[0].best_nats is None:
    raise ConfigError(f"every one of {len(ranked)} settings failed in the search; train one of them without --search "
                      "to see why.")
  return [trial.index for trial in ranked[:max(1, len(ranked) // KEPT)]]


def _with(config: ml_collections.ConfigDict, settings: Settings) -> ml_collections.ConfigDict:
  """Return the config with these settings, whatever the number of examples."""
  return replaced(keep_settings(config, settings), settings, "search")


def _shortened(config: ml_collections.ConfigDict, settings: Settings,
               fraction: int | float) -> ml_collections.ConfigDict:
  """Return the config of a trial: fewer steps, schedules included, with about five validations and no early end."""
  result = keep_settings(_with(config, settings), [f"training.{name}" for name in (
      "num_steps", "eval_every", "checkpoint_every", "log_every", "patience")])
  training = result.training
  call = training.steps_per_call = min(training.steps_per_call, training.num_steps)  # as in the run itself

  def rounded(steps: int | float) -> int:
    return max(1, round(steps / call)) * call

  training.num_steps = rounded(training.num_steps * fraction)
  training.eval_every = rounded(training.num_steps / 5)
  training.checkpoint_every = training.num_steps
  training.log_every = rounded(min(training.log_every, training.num_steps))
  training.patience = 0
  return result


class _Record:
  """The record of a search's trials, on disk after every trial."""

  def __init__(self, folder: Path, config: ml_collections.ConfigDict, budget: int | float, space: Mapping[str, tuple]):
    self.folder, self.budget = folder, budget
    self.path = folder / "search.json"
    fields = {name: value for name, value in config.to_dict().items() if name in ("data", "model", "optimizer", "seed")}
    self._about = {"space": {name: repr(values) for name, values in space.items()}, "config": repr(fields)}
    self.trials: list[Trial] = []
    if self.path.exists():
      kept = read_json(self.path)
      if kept.get("about") != self._about:
        raise WorkdirError(f"{folder} holds a search of another config; remove it, or name another workdir.")
      try:
        self.trials = [Trial(**trial) for trial in kept["trials"]]
      except (KeyError, TypeError) as error:
        raise WorkdirError(f"{self.path} is damaged ({error}); remove {folder} to search again.") from error

  @property
  def seconds(self) -> float:
    return sum(trial.seconds for trial in self.trials)

  def find(self, number: int, index: int) -> Trial | None:
    """Return the trial of a setting in a round, where it is done."""
    return next((trial for trial in self.trials if (trial.round, trial.index) == (number, index)), None)

  def run(self, number: int, index: int, settings: Settings, config: ml_collections.ConfigDict, train: Train) -> Trial:
    """Train a setting, and records what it came to."""
    place = Workdir(self.folder / f"{number}_{index}")
    begin, best = time.monotonic(), None
    with contextlib.suppress(NotFiniteError):  # a setting that diverges is a bad one
      best = train(config, place)
    trial = Trial(number, index, dict(settings), best, time.monotonic() - begin)
    self.trials.append(trial)
    self._write({})
    shutil.rmtree(place.path, ignore_errors=True)
    return trial

  def close(self, chosen: Settings) -> None:
    """Write down what was chosen."""
    self._write({"chosen": dict(chosen)})

  def _write(self, more: Mapping[str, Any]) -> None:
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise WorkdirError(f"{self.folder} cannot be made: {error.strerror}; name another workdir.") from error
    trials = [dataclasses.asdict(trial) for trial in self.trials]
    write_json(self.path, {"about": self._about, "budget_seconds": self.budget, "seconds": self.seconds,
                           "trials": trials, **more})
