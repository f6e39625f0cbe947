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
from gdm.runs.sweep.grid import make_points
from gdm.runs.sweep.jobs import Job, caught_signals, run_jobs

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<family>/<model>.py:<dataset>", lock_config=True)
_ROOT = flags.DEFINE_string("root", None, "Folder of the workdirs; made if absent.")
_GRID = flags.DEFINE_multi_string("grid", [], "<field>=<value>,<value>,...; may be given several times.")
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "The split to score.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs at once.", lower_bound=1)
_PRINT = flags.DEFINE_boolean("print", False, "Print the commands, one line per run, and run nothing.")


def main(argv: Sequence[str]) -> int:
  cli.refuse_arguments(argv)
  cli.require_flag("config")
  root, split = cli.require_path("root"), _SPLIT.value
  if root.exists() and not root.is_dir():
    raise WorkdirError(f"--root is {str(root)!r}, which is a file; name a folder.")
  if fault := fault_of_folder(root):
    raise WorkdirError(f"--root is {str(root)!r}, {fault}")
  source = config_flags.get_config_filename(flags.FLAGS["config"])
  points = make_points(source, _CONFIG.value, cli.overrides(), _GRID.value, root, read_value)
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
  """Run the jobs, and then the leaderboard of the root. Returns the exit code."""
  with caught_signals() as caught:
    code = run_jobs(jobs, at_once, caught)
    reports = [*root.glob(f"*/likelihood_{split}.json"), *root.glob(f"*/labels_{split}.json")]
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


def make_root(root: Path) -> None:
  """Make the folder. Raise WorkdirError where it cannot be made."""
  try:
    root.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise WorkdirError(f"--root is {str(root)!r}, which cannot be made: {error.strerror}; name another "
                       "folder.") from error


if __name__ == "__main__":
  cli.run(main)
