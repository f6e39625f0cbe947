"""A grid of config values: its points, their names, and the commands that train and score each."""

import dataclasses
import hashlib
import itertools
import sys
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.evaluation.label_report import read_label_report
from gdm.evaluation.report import read_report
from gdm.runs import registry
from gdm.runs.settings import check_settings, with_defaults
from gdm.runs.sizes import keep_settings
from gdm.runs.sweep.space import Axis, Range, make_range, random_points, split_range
from gdm.runs.workdir import Workdir, read_json, training_fields
from gdm.storage import is_url

_LONGEST_NAME = 200  # file systems allow 255 bytes

# (config, field, text) -> the value that --config.<field>=<text> gives; raises ConfigError where there is none.
Reader = Callable[[ConfigDict, str, str], Any]


@dataclasses.dataclass(frozen=True)
class GridPoint:
  """One combination of values, and the run that it makes.

  Attributes:
    name: what tells it from the other points: its workdir within the root.
    source: --config.
    config: the whole config.
    overrides: the fields that differ from the config file, with their values.
    folder: the workdir, a path or a URL.
  """

  name: str
  source: str
  config: ConfigDict
  overrides: Mapping[str, Any]
  folder: Path | str

  def commands_left(self, split: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands still to run: train and evaluate, evaluate alone, or none."""
    train = (*_python("train"), f"--config={self.source}", f"--workdir={self.folder}", *_arguments(self.overrides))
    evaluate = (*_python("evaluate"), f"--workdir={self.folder}", f"--split={split}", *_arguments(self._evaluation))
    if Workdir(self.folder).finished_step() is None:
      return (train, evaluate)
    return () if self._is_scored(split) else (evaluate,)

  def best_nats(self) -> float | None:
    """Return the best validation of the training, the higher the better; None where it is not finished or has none."""
    workdir = Workdir(self.folder)
    return None if workdir.finished_step() is None else read_json(workdir.finished).get("best_nats")

  def require_own_workdir(self) -> None:
    """Raise WorkdirError where the workdir belongs to a run with another config."""
    workdir = Workdir(self.folder)
    workdir.fetch()
    if not workdir.config.exists():
      return
    there, now = training_fields(workdir.read_config()), training_fields(self.config)
    differ = [f"{name}: {there.get(name, 'absent')!r} there, {now.get(name, 'absent')!r} now"
              for name in sorted(there.keys() | now.keys()) if repr(there.get(name)) != repr(now.get(name))]
    if differ:
      raise WorkdirError(f"workdir {self.folder} belongs to another config ({'; '.join(differ)}); name another --root.")

  @property
  def _evaluation(self) -> dict[str, Any]:
    """Settings that may have changed since the training, which experiments.evaluate is given."""
    return {field: value for field, value in self.overrides.items()
            if field.startswith("evaluation.") or field == "data.data_dir"}

  def _is_scored(self, split: str) -> bool:
    """Return whether the report is of the checkpoint that counts, and made with these settings."""
    workdir = Workdir(self.folder)
    labels = workdir.path / f"labels_{split}.json"  # of a model that has no likelihood
    try:
      report = read_label_report(labels) if labels.exists() else read_report(
          workdir.path / f"likelihood_{split}.json")
    except DataError:  # missing, or damaged: scoring again replaces it
      return False
    finished = read_json(workdir.finished)
    made = report.get("evaluation", {})
    return (report["step"] == (finished.get("best_step") or finished["step"])
            and all(made.get(field.removeprefix("evaluation.")) == value
                    for field, value in self._evaluation.items() if field.startswith("evaluation.")))


def make_points(source: str, config: ConfigDict, fixed: Mapping[str, Any], grid: Sequence[str], root: Path | str,
                read: Reader, num_random: int = 0) -> list[GridPoint]:
  """Return the points of the grid, the last --grid changing fastest, or some drawn at random.

  Args:
    source: --config.
    config: its config, with `fixed` set.
    fixed: fields that the command line sets for all points.
    grid: the texts of --grid.
    root: folder of the workdirs, a path or a URL.
    read: reads the text of a value.
    num_random: number of points drawn at random; 0 for all.

  Raises:
    ConfigError: a field or value that cannot be, or one that is given twice; a range, where all points are asked for.
  """
  axes = read_axes(config, fixed, grid, read)
  if num_random:
    return [make_point(source, config, fixed, chosen, root) for chosen in random_points(axes, num_random)]
  for field, axis in axes.items():
    if isinstance(axis, Range):
      raise ConfigError(f"--grid={field} is the range {axis.low}..{axis.high}; give --random=N or --optuna=N with it, "
                        "or a list of values.")
  values = itertools.product(*(axis for axis in axes.values() if not isinstance(axis, Range)))
  return [make_point(source, config, fixed, dict(zip(axes, each, strict=True)), root) for each in values]


def read_axes(config: ConfigDict, fixed: Mapping[str, Any], grid: Sequence[str], read: Reader) -> dict[str, Axis]:
  """Return what each field of the grid may be; arguments and errors as in `make_points`."""
  if not grid:
    raise ConfigError("--grid is missing; it must be <field>=<value>,<value>,..., as --grid=seed=0,1,2.")
  axes: dict[str, Axis] = {}
  for text in grid:
    field, values = split_axis(text)
    if field in axes:
      raise ConfigError(f"--grid names {field} twice; give all its values in one.")
    if field in fixed:
      raise ConfigError(f"{field} is in --grid, but also fixed by --config.{field}={show(fixed[field])}; drop one.")
    if len(values) == 1 and (ends := split_range(values[0])):
      axes[field] = make_range(field, *(read(config, field, end) for end in ends))
      continue
    axes[field] = chosen = [read(config, field, value) for value in values]
    for value, times in Counter(map(name_of, chosen)).items():
      if times > 1:
        raise ConfigError(f"--grid={text}: {value} is there {times} times; each value makes one run.")
  return axes


def make_point(source: str, config: ConfigDict, fixed: Mapping[str, Any], chosen: Mapping[str, Any],
               root: Path | str) -> GridPoint:
  """Return the point of these values; arguments as in `make_points`. Raise ConfigError where they cannot be."""
  point_config = config.copy_and_resolve_references()
  names = {field.removesuffix(".name"): value for field, value in chosen.items() if field.endswith(".name")}
  with registry.chosen(names), point_config.unlocked():  # another network has other fields
    point_config.model = registry.complete(point_config.model.to_dict())
  point_config.update_from_flattened_dict(chosen)
  point_config = keep_settings(with_defaults(point_config), {**fixed, **chosen})
  check_settings(point_config)
  name = name_point(chosen)
  return GridPoint(name, source, point_config, {**fixed, **chosen},
                   f"{root}/{name}" if is_url(root) else Path(root) / name)


def split_axis(text: str) -> tuple[str, list[str]]:
  """`field=v1,v2` into its field and the texts of its values; commas within brackets or quotes divide nothing.

  Raise ConfigError where there is no field, or where a bracket or quote is not closed.
  """
  field, equals, values = text.partition("=")
  if not equals or not field:
    raise ConfigError(f"--grid is {text!r}; it must be <field>=<value>,<value>,..., as --grid=seed=0,1,2.")
  parts, closing, closers = [""], [], {"(": ")", "[": "]", "{": "}", "'": "'", '"': '"'}
  for character in values:
    quoted = bool(closing) and closing[-1] in "'\""
    if character == "," and not closing:
      parts.append("")
      continue
    parts[-1] += character
    if closing and character == closing[-1]:
      closing.pop()
    elif not quoted and character in closers:
      closing.append(closers[character])
    elif not quoted and character in ")]}":
      closing.append(character)  # never to be closed
      break
  if closing:
    raise ConfigError(f"--grid is {text!r}, where brackets or quotes do not match.")
  return field, parts


def name_point(chosen: Mapping[str, Any]) -> str:
  """Return a name for a file: `<field>=<value>,...`, by the last part of each field where that says which.

  Fields are sorted, so that a name does not hang on the order of the flags.
  """
  last = Counter(field.rpartition(".")[2] for field in chosen)
  parts = []
  for field in sorted(chosen):
    short = field.rpartition(".")[2]
    parts.append(f"{short if last[short] == 1 else field}={name_of(chosen[field])}")
  name = ",".join(parts)
  if len(name) > _LONGEST_NAME:  # %-codes are all of ASCII, so these are bytes
    name = f"{name[:_LONGEST_NAME - 13]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"
  return name


def name_of(value: Any) -> str:
  """Return a value as part of a file's name: `0.001`, `true`, `200x200`, `binarize+flatten`."""
  if isinstance(value, tuple):
    numbers = all(isinstance(item, int | float) for item in value)
    return ("x" if numbers else "+").join(map(name_of, value)) or "empty"
  return urllib.parse.quote(show(value), safe="")


def show(value: Any) -> str:
  """Return a value as the command line takes it."""
  if isinstance(value, str):
    return value
  return str(value).lower() if isinstance(value, bool) else repr(value)


def _arguments(overrides: Mapping[str, Any]) -> list[str]:
  return [f"--config.{field}={show(value)}" for field, value in overrides.items()]


def _python(binary: str) -> tuple[str, ...]:
  return (sys.executable, "-m", f"experiments.{binary}")
