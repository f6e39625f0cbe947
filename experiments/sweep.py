"""Trains and scores one model at every point of a grid, one workdir each, and ranks the results.

  python -m experiments.sweep --config=configs/autoregressive/made.py:digits --root=runs/sweep
      --grid=optimizer.learning_rate=1e-3,3e-4 --grid=seed=0,1,2 [--grid='model.hidden=(100,),(200,200)']
      [--config.training.num_steps=500 ...] [--split=test] [--jobs=2] [--print]

Each --grid names a field of the config and its values; the runs are all combinations, and what --config.<field>=<value>
fixes holds for all. The run of learning rate 0.001 and seed 0 is the workdir `<root>/learning_rate=0.001,seed=0`. The
same command goes on where it was interrupted: runs that are finished and scored are skipped, whatever the order of the
flags. With --jobs above 1 the output of each run goes to `<root>/<run>.log`. A run that fails does not stop the others.
The end is the leaderboard of the root, with means over seeds.

With --print nothing is run: the commands that are left are printed, one line per run, for a shell each:

  python -m experiments.sweep ... --print | xargs -d '\\n' -n 1 -P 4 sh -c
  python -m experiments.sweep ... --print > runs.txt; sbatch --array=1-$(wc -l < runs.txt) \\
      --wrap='sh -c "$(sed -n ${SLURM_ARRAY_TASK_ID}p runs.txt)"'

Exit codes: 0 all is finished, 1 a run failed, 2 bad input, found before anything starts, 75 interrupted (Ctrl-C,
SIGTERM), and what was under way is saved: run it again to go on.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import cli
from experiments.overrides import check_overrides
from gdm.errors import ConfigError, DataError, WorkdirError
from gdm.evaluation.report import read_report
from gdm.paths import fault_of_folder
from gdm.runs.settings import check_settings, with_defaults
from gdm.runs.sizes import keep_settings
from gdm.runs.workdir import Workdir, read_json, training_fields

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<family>/<model>.py:<dataset>", lock_config=True)
_ROOT = flags.DEFINE_string("root", None, "Folder of the workdirs; made if absent.")
_GRID = flags.DEFINE_multi_string("grid", [], "<field>=<value>,<value>,...; may be given several times.")
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "The split to score.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs at once.", lower_bound=1)
_PRINT = flags.DEFINE_boolean("print", False, "Print the commands, one line per run, and run nothing.")

_POLL_SECONDS = 0.05
_LONGEST_NAME = 200  # file systems allow 255 bytes


def main(argv: Sequence[str]) -> int:
  cli.refuse_arguments(argv)
  cli.require_flag("config")
  root, split = cli.require_path("root"), _SPLIT.value
  if root.exists() and not root.is_dir():
    raise WorkdirError(f"--root is {str(root)!r}, which is a file; name a folder.")
  if fault := fault_of_folder(root):
    raise WorkdirError(f"--root is {str(root)!r}, {fault}")
  source = config_flags.get_config_filename(flags.FLAGS["config"])
  points = make_points(source, _CONFIG.value, cli.overrides(), _GRID.value, root)
  for point in points:
    point.require_own_workdir()
  jobs = []
  for place, point in enumerate(points, start=1):
    commands = point.commands_left(split)
    log = root / f"{point.name}.log" if _JOBS.value > 1 else None
    if commands:
      jobs.append(Job(f"{point.name} ({place}/{len(points)})", commands, log))
    else:  # stdout is for the commands alone
      print(f"{point.name} ({place}/{len(points)}): finished and scored already.",
            file=sys.stderr if _PRINT.value else sys.stdout)
  if _PRINT.value:
    for job in jobs:
      print(job.line)
    return 0
  make_root(root)
  return run_sweep(jobs, _JOBS.value, root, split)


def run_sweep(jobs: Sequence["Job"], at_once: int, root: Path, split: str) -> int:
  """Runs the jobs, and then the leaderboard of the root. Returns the exit code."""
  with caught_signals() as caught:
    code = run_jobs(jobs, at_once, caught)
    if code == cli.EXIT_RESUME_ME or not any(root.glob(f"*/likelihood_{split}.json")):
      return code
    ranking = (sys.executable, "-m", "experiments.leaderboard", str(root), f"--split={split}", "--seeds")
    return max(code, run_jobs([Job("", (ranking,))], 1, caught))


@dataclasses.dataclass(frozen=True)
class Point:
  """One combination of values, and the run that it makes.

  Attributes:
    name: what tells it from the other points: its workdir within the root.
    source: --config.
    config: the whole config.
    overrides: the fields that differ from the config file, with their values.
    folder: the workdir.
  """

  name: str
  source: str
  config: ConfigDict
  overrides: Mapping[str, Any]
  folder: Path

  def commands_left(self, split: str) -> tuple[tuple[str, ...], ...]:
    """The commands still to run: train and evaluate, evaluate alone, or none."""
    train = (*_python("train"), f"--config={self.source}", f"--workdir={self.folder}", *_arguments(self.overrides))
    evaluate = (*_python("evaluate"), f"--workdir={self.folder}", f"--split={split}", *_arguments(self._evaluation))
    if Workdir(self.folder).finished_step() is None:
      return (train, evaluate)
    return () if self._is_scored(split) else (evaluate,)

  def require_own_workdir(self) -> None:
    """Raises WorkdirError where the workdir belongs to a run with another config."""
    workdir = Workdir(self.folder)
    if not workdir.config.exists():
      return
    there, now = training_fields(workdir.read_config()), training_fields(self.config)
    differ = [f"{name}: {there.get(name, 'absent')!r} there, {now.get(name, 'absent')!r} now"
              for name in sorted(there.keys() | now.keys()) if repr(there.get(name)) != repr(now.get(name))]
    if differ:
      raise WorkdirError(f"workdir {self.folder} belongs to another config ({'; '.join(differ)}); name another --root.")

  @property
  def _evaluation(self) -> dict[str, Any]:
    """What may have changed since the training, and so is told to experiments.evaluate."""
    return {field: value for field, value in self.overrides.items()
            if field.startswith("evaluation.") or field == "data.data_dir"}

  def _is_scored(self, split: str) -> bool:
    """Whether the report is of the checkpoint that counts, and made with these settings."""
    workdir = Workdir(self.folder)
    try:
      report = read_report(workdir.path / f"likelihood_{split}.json")
    except DataError:  # missing, or damaged: scoring again replaces it
      return False
    finished = read_json(workdir.finished)
    made = report.get("evaluation", {})
    return (report["step"] == (finished.get("best_step") or finished["step"])
            and all(made.get(field.removeprefix("evaluation.")) == value
                    for field, value in self._evaluation.items() if field.startswith("evaluation.")))


def make_points(source: str, config: ConfigDict, fixed: Mapping[str, Any], grid: Sequence[str],
                root: Path) -> list[Point]:
  """The points of the grid, the last --grid changing fastest.

  Args:
    source: --config.
    config: its config, with `fixed` set.
    fixed: fields that the command line sets for all points.
    grid: the texts of --grid.
    root: folder of the workdirs.

  Raises:
    ConfigError: a field or value that cannot be, or one that is given twice.
  """
  if not grid:
    raise ConfigError("--grid is missing; it must be <field>=<value>,<value>,..., as --grid=seed=0,1,2.")
  axes: dict[str, list[Any]] = {}
  for text in grid:
    field, values = split_axis(text)
    if field in axes:
      raise ConfigError(f"--grid names {field} twice; give all its values in one.")
    if field in fixed:
      raise ConfigError(f"{field} is in --grid, but also fixed by --config.{field}={show(fixed[field])}; drop one.")
    axes[field] = [_read(config, field, value) for value in values]
    for value, times in Counter(map(name_of, axes[field])).items():
      if times > 1:
        raise ConfigError(f"--grid={text}: {value} is there {times} times; each value makes one run.")
  points = []
  for values in itertools.product(*axes.values()):
    chosen = dict(zip(axes, values, strict=True))
    point_config = config.copy_and_resolve_references()
    point_config.update_from_flattened_dict(chosen)
    point_config = keep_settings(with_defaults(point_config), {**fixed, **chosen})
    check_settings(point_config)
    name = name_point(chosen)
    points.append(Point(name, source, point_config, {**fixed, **chosen}, root / name))
  return points


def split_axis(text: str) -> tuple[str, list[str]]:
  """`field=v1,v2` into its field and the texts of its values; commas within brackets or quotes divide nothing.

  Raises ConfigError where there is no field, or where a bracket or quote is not closed.
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
  """A name for a file: `<field>=<value>,...`, by the last part of each field where that says which.

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
  """A value as part of a file's name: `0.001`, `true`, `200x200`, `binarize+flatten`."""
  if isinstance(value, tuple):
    numbers = all(isinstance(item, int | float) for item in value)
    return ("x" if numbers else "+").join(map(name_of, value)) or "empty"
  return urllib.parse.quote(show(value), safe="")


def show(value: Any) -> str:
  """A value as the command line takes it."""
  if isinstance(value, str):
    return value
  return str(value).lower() if isinstance(value, bool) else repr(value)


def _read(config: ConfigDict, field: str, text: str) -> Any:
  """The value that --config.<field>=<text> gives. Raises ConfigError where there is none."""
  argument = f"--config.{field}={text}"
  try:
    check_overrides([argument], config)
    values, command = flags.FlagValues(), ["experiments.train", argument]
    config_flags.DEFINE_config_dict("config", config.copy_and_resolve_references(), flag_values=values,
                                    sys_argv=command)
    values(command)
    return config_flags.get_override_values(values["config"])[field]
  except ConfigError as error:
    raise ConfigError(f"--grid={str(error).removeprefix('--config.')}") from error
  except flags.Error as error:
    raise ConfigError(f"--grid={field} holds {text!r}: {error}") from error


def _arguments(overrides: Mapping[str, Any]) -> list[str]:
  return [f"--config.{field}={show(value)}" for field, value in overrides.items()]


def _python(binary: str) -> tuple[str, ...]:
  return (sys.executable, "-m", f"experiments.{binary}")


def make_root(root: Path) -> None:
  """Makes the folder. Raises WorkdirError where it cannot be made."""
  try:
    root.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise WorkdirError(f"--root is {str(root)!r}, which cannot be made: {error.strerror}; name another "
                       "folder.") from error


@dataclasses.dataclass(frozen=True)
class Job:
  """Commands to run one after the other, each if the one before succeeded.

  Attributes:
    name: what it is called in messages; "" says nothing at its start.
    commands: each as (python, "-m", module, argument, ...).
    log: the file that their output goes to; None lets it through.
  """

  name: str
  commands: tuple[tuple[str, ...], ...]
  log: Path | None = None

  @property
  def line(self) -> str:
    """All of it as one line for a shell."""
    return " && ".join(map(shlex.join, self.commands))

  def start(self, number: int) -> subprocess.Popen:
    """Starts a command."""
    with self.log.open("ab") if self.log else contextlib.nullcontext() as log:
      # In the sweep's own process group: what ends a terminal ends them all.
      return subprocess.Popen(self.commands[number], stdin=subprocess.DEVNULL, stdout=log,
                              stderr=subprocess.STDOUT if log else None)

  def failure(self, number: int, code: int) -> str:
    """What is said of a command that failed, in one line."""
    module = self.commands[number][2]
    how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
    said = [line.strip() for line in self.log.read_text(errors="replace").splitlines()] if self.log else []
    return f"error: {self.name or 'the ranking'}: {module} {how}: {next(filter(None, reversed(said)), 'see above')}"


def run_jobs(jobs: Sequence[Job], at_once: int, caught: Sequence[int]) -> int:
  """Runs the jobs, `at_once` of them at a time.

  A job that fails is told, and the others go on. One that says that it was interrupted, or a signal in `caught`, stops
  the rest: SIGTERM is passed on to what runs, which is waited for.

  Returns:
    0, 1 where a job failed, or EXIT_RESUME_ME where the rest was stopped.
  """
  waiting, running = list(reversed(jobs)), {}
  stopping = failed = told = False
  try:
    while running or (waiting and not stopping):
      while waiting and len(running) < at_once and not (stopping or caught):
        job = waiting.pop()
        if job.name:
          print(f"{job.name}{f': output in {job.log}' if job.log else ''}", flush=True)
        running[job] = (0, job.start(0))
      time.sleep(_POLL_SECONDS)
      for job, (number, process) in list(running.items()):
        if (code := process.poll()) is None:
          continue
        del running[job]
        stopping = stopping or bool(caught) or code == cli.EXIT_RESUME_ME
        if code and not stopping:
          failed = True
          print(job.failure(number, code), file=sys.stderr, flush=True)
        elif not stopping and number + 1 < len(job.commands):
          running[job] = (number + 1, job.start(number + 1))
        elif not code and job.log:
          print(f"{job.name}: done.", flush=True)
      stopping = stopping or bool(caught)
      if stopping and not told:
        told = True
        for _, process in running.values():
          process.terminate()
        print(f"interrupted, {len(running)} under way and told to save; the same command goes on.", flush=True)
      if caught.count(signal.SIGINT) > 1:  # a workdir survives a kill at any moment
        for _, process in running.values():
          process.kill()
  finally:  # nothing runs on, whatever was raised
    for _, process in running.values():
      process.kill()
      process.wait()
  return cli.EXIT_RESUME_ME if stopping or caught else int(failed)


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
  """Within it, signals that ask for an end only append their number to the list."""
  caught: list[int] = []
  old = {}
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
      old[number] = signal.signal(number, lambda number, frame: caught.append(number))
  try:
    yield caught
  finally:
    for number, handler in old.items():
      signal.signal(number, handler)


if __name__ == "__main__":
  cli.run(main)
