"""Trains and scores one model at every point of a grid, one workdir each, and ranks the results.

  python -m experiments.sweep --config=configs/autoregressive/made.py:digits --root=runs/sweep
      --grid=optimizer.learning_rate=1e-3,3e-4 --grid=seed=0,1,2 [--grid='model.hidden=(100,),(200,200)']
      [--config.training.num_steps=500 ...] [--split=test] [--jobs=2] [--print]
      [--random=20 | --optuna=20] [--launcher=slurm --slurm=slurm_partition=gpu,timeout_min=240]

Each --grid names a field of the config and its values; the runs are all combinations, and what --config.<field>=<value>
fixes holds for all. The run of learning rate 0.001 and seed 0 is the workdir `<root>/learning_rate=0.001,seed=0`. The
same command goes on where it was interrupted: runs that are finished and scored are skipped, whatever the order of the
flags. With --jobs above 1 the output of each run goes to `<root>/<run>.log`. A run that fails does not stop the others.
The end is the leaderboard of the root, with means over seeds.

With --random=N, N points are drawn from the lists, or from ranges as --grid=optimizer.learning_rate=1e-4..1e-2, which
are uniform in the logarithm. With --optuna=N, Optuna (an extra) proposes N points, each from what the earlier ones came
to. Both train all points, choose the one that validated best, and score that one alone on --split.

With --print nothing is run: the commands that are left are printed, one line per run, for a shell each:

  python -m experiments.sweep ... --print | xargs -d '\\n' -n 1 -P 4 sh -c
  python -m experiments.sweep ... --print > runs.txt; sbatch --array=1-$(wc -l < runs.txt) \\
      --wrap='sh -c "$(sed -n ${SLURM_ARRAY_TASK_ID}p runs.txt)"'

With --launcher=slurm the runs become SLURM's jobs, one each, through submitit (an extra); --slurm has their parameters
by submitit's names. A job whose time is up, or that is preempted, saves, is requeued and goes on. The same command
submits what failed, leaves alone what is in the queue, and ends with the leaderboard once all is scored:

  python -m experiments.sweep ... --launcher=slurm --slurm=slurm_partition=gpu,gpus_per_node=1,timeout_min=240

Exit codes: 0 all is finished, or submitted, 1 a run failed, 2 bad input, found before anything starts, 75 interrupted
(Ctrl-C, SIGTERM), and what was under way is saved: run it again to go on.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import cli
from gdm.errors import ConfigError, WorkdirError
from gdm.paths import fault_of_folder
from gdm.runs.exits import EXIT_RESUME_ME
from gdm.runs.overrides import check_overrides
from gdm.runs.sweep.grid import GridPoint, make_point, make_points, read_axes
from gdm.runs.sweep.jobs import Job, caught_signals, run_jobs
from gdm.runs.sweep.slurm import parse_parameters, submit
from gdm.runs.sweep.space import Proposals
from gdm.storage import is_url, local_copy

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<family>/<model>.py:<dataset>", lock_config=True)
_ROOT = flags.DEFINE_string("root", None, "Folder of the workdirs, also in a bucket; made if absent.")
_GRID = flags.DEFINE_multi_string("grid", [], "<field>=<value>,<value>,...; may be given several times.")
_RANDOM = flags.DEFINE_integer("random", 0, "Draw so many points at random in place of all.", lower_bound=0)
_OPTUNA = flags.DEFINE_integer("optuna", 0, "Let Optuna propose so many points in place of all.", lower_bound=0)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "The split to score.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs at once.", lower_bound=1)
_LAUNCHER = flags.DEFINE_enum("launcher", "here", ["here", "slurm"], "Who runs them: this command, or SLURM.")
_SLURM = flags.DEFINE_string("slurm", "", "Parameters of SLURM's jobs: NAME=VALUE,NAME=VALUE, as submitit names them.")
_PRINT = flags.DEFINE_boolean("print", False, "Print the commands, one line per run, and run nothing.")


def main(argv: Sequence[str]) -> int:
  cli.refuse_arguments(argv)
  cli.require_flag("config")
  root, split = cli.require_path("root"), _SPLIT.value
  if is_url(cli.require_flag("root")) and _LAUNCHER.value == "slurm":
    raise ConfigError(f"--root is {_ROOT.value!r} with --launcher=slurm, which keeps jobs and logs below it; name a "
                      "folder that all nodes share.")
  if root.exists() and not root.is_dir():
    raise WorkdirError(f"--root is {str(root)!r}, which is a file; name a folder.")
  if fault := fault_of_folder(root):
    raise WorkdirError(f"--root is {str(root)!r}, {fault}")
  source = config_flags.get_config_filename(flags.FLAGS["config"])
  if _LAUNCHER.value == "slurm" and (_RANDOM.value or _OPTUNA.value or _PRINT.value):
    raise ConfigError("--launcher=slurm is given with --random, --optuna or --print; it takes a --grid alone.")
  if _SLURM.value and _LAUNCHER.value != "slurm":
    raise ConfigError(f"--slurm is {_SLURM.value!r}, but --launcher is {_LAUNCHER.value}; add --launcher=slurm.")
  parameters = parse_parameters(_SLURM.value)
  if _RANDOM.value and _OPTUNA.value:
    raise ConfigError("--random and --optuna are both given; drop one.")
  if _OPTUNA.value:
    return run_proposals(source, root, split)
  points = make_points(source, _CONFIG.value, cli.overrides(), _GRID.value, workdirs_at(root), read_value,
                       _RANDOM.value)
  for point in points:
    point.require_own_workdir()
  if _RANDOM.value:
    return run_random(points, root, split)
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
  if jobs and _LAUNCHER.value == "slurm":
    submit(jobs, root, parameters)
    return 0
  return run_sweep(jobs, _JOBS.value, workdirs_at(root), split)


def run_random(points: Sequence[GridPoint], root: Path, split: str) -> int:
  """Train the points, and score the one that validated best. Returns the exit code."""
  jobs = [_training(point, f"{point.name} ({place}/{len(points)})", root)
          for place, point in enumerate(points, start=1) if point.best_nats() is None]
  if _PRINT.value:
    print("\n".join(job.line for job in jobs))
    return 0
  make_root(root)
  with caught_signals() as caught:
    code = run_jobs(jobs, _JOBS.value, caught)
  return code if code == EXIT_RESUME_ME else max(code, score_best(points, root, split))


def run_proposals(source: str, root: Path, split: str) -> int:
  """Train the points that Optuna proposes, --jobs at a time, and score the one that validated best. Returns the exit
  code."""
  if _PRINT.value:
    raise ConfigError("--print is given with --optuna, whose points follow from the results of earlier ones; drop one.")
  config, fixed = _CONFIG.value, cli.overrides()
  axes = read_axes(config, fixed, _GRID.value, read_value)
  proposals, points, failed = Proposals(axes), [], 0
  while len(points) < _OPTUNA.value:
    asked = [proposals.next() for _ in range(min(_JOBS.value, _OPTUNA.value - len(points)))]
    several = [make_point(source, config, fixed, chosen, workdirs_at(root)) for _, chosen in asked]
    for point in several:
      point.require_own_workdir()
    fresh = {point.name: _training(point, f"{point.name} ({len(points) + place}/{_OPTUNA.value})", root)
             for place, point in enumerate(several, start=1) if point.best_nats() is None}
    make_root(root)
    with caught_signals() as caught:
      code = run_jobs(list(fresh.values()), _JOBS.value, caught)
    if code == EXIT_RESUME_ME:
      return code
    failed = max(failed, code)
    for (trial, _), point in zip(asked, several, strict=True):
      proposals.tell(trial, point.best_nats())
    points += several
  return max(failed, score_best(points, root, split))


def score_best(points: Sequence[GridPoint], root: Path, split: str) -> int:
  """Score the point that validated best, and rank what was scored. Returns the exit code."""
  found = [(nats, point) for point in points if (nats := point.best_nats()) is not None]
  if not found:
    print("no run has a validation to choose by.", file=sys.stderr)
    return 1
  best_nats, best = max(found, key=lambda each: each[0])
  print(f"chosen on the validation split, among {len(found)}: {best.name} ({best_nats:.4f} nats)", flush=True)
  commands = best.commands_left(split)
  return run_sweep([Job(best.name, commands)] if commands else [], 1, workdirs_at(root), split)


def _training(point: GridPoint, name: str, root: Path) -> Job:
  train, *_ = point.commands_left("valid")
  return Job(name, (train,), root / f"{point.name}.log" if _JOBS.value > 1 else None)


def run_sweep(jobs: Sequence["Job"], at_once: int, root: Path | str, split: str) -> int:
  """Run the jobs, and then the leaderboard of the root, a folder or a URL. Returns the exit code."""
  with caught_signals() as caught:
    code = run_jobs(jobs, at_once, caught)
    found = local_copy(root, "--root")  # of a bucket, what is there by now
    reports = [*found.glob(f"*/likelihood_{split}.json"), *found.glob(f"*/labels_{split}.json")]
    if code == EXIT_RESUME_ME or not reports:
      return code
    ranking = (sys.executable, "-m", "experiments.leaderboard", str(root), f"--split={split}", "--seeds")
    return max(code, run_jobs([Job("", (ranking,))], 1, caught))


def read_value(config: ConfigDict, field: str, text: str) -> Any:
  """Return the value that --config.<field>=<text> gives. Raise ConfigError where there is none."""
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


def workdirs_at(root: Path) -> Path | str:
  """Return the folder of the workdirs as runs are given it: of one in a bucket its URL, not the local copy."""
  given = (_ROOT.value or "").rstrip("/")
  return given if is_url(given) else root


def make_root(root: Path) -> None:
  """Make the folder. Raise WorkdirError where it cannot be made."""
  try:
    root.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise WorkdirError(f"--root is {str(root)!r}, which cannot be made: {error.strerror}; name another "
                       "folder.") from error


if __name__ == "__main__":
  cli.run(main)
