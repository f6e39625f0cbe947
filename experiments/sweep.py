"""Trains and scores one model at every point of a grid, one workdir each, and ranks the results.

  python -m experiments.sweep --config=configs/autoregressive/made.py:digits --root=runs/sweep
      --grid=optimizer.learning_rate=1e-3,3e-4 --grid=seed=0,1,2 [--grid='model.network.hidden=(100,),(200,200)']
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

from absl import flags
from ml_collections import config_flags

from experiments import cli
from gdm.errors import ConfigError, WorkdirError
from gdm.paths import fault_of_folder
from gdm.runs.sweep.grid import make_point, make_points, read_axes
from gdm.runs.sweep.running import SweepPlace, run_and_choose, run_and_rank, run_proposals, scoring, training
from gdm.runs.sweep.slurm import parse_parameters, submit
from gdm.runs.sweep.space import Proposals
from gdm.runs.sweep.values import read_value
from gdm.storage import is_url

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


def main() -> int:
  cli.require_flag("config")
  place = _place()
  _require_flags_that_fit()
  source, parameters = config_flags.get_config_filename(flags.FLAGS["config"]), parse_parameters(_SLURM.value)
  config, fixed = _CONFIG.value, cli.overrides()
  if _OPTUNA.value:
    axes = read_axes(config, fixed, _GRID.value, read_value)
    return run_proposals(Proposals(axes), lambda chosen: make_point(source, config, fixed, chosen, place.workdirs),
                         _OPTUNA.value, place)
  points = make_points(source, config, fixed, _GRID.value, place.workdirs, read_value, _RANDOM.value)
  for point in points:
    point.require_own_workdir()
  jobs, done = (training(points, place), []) if _RANDOM.value else scoring(points, place)
  for line in done:  # stdout is for the commands alone
    print(line, file=sys.stderr if _PRINT.value else sys.stdout)
  if _PRINT.value:
    for job in jobs:
      print(job.line)
    return 0
  if _RANDOM.value:
    return run_and_choose(points, place)
  place.make()
  if jobs and _LAUNCHER.value == "slurm":
    submit(jobs, place.root, parameters)
    return 0
  return run_and_rank(jobs, place)


def _place() -> SweepPlace:
  """Return where the runs are. Raise WorkdirError or ConfigError where they cannot be there."""
  root, given = cli.require_path("root"), cli.require_flag("root")
  if is_url(given) and _LAUNCHER.value == "slurm":
    raise ConfigError(f"--root is {given!r} with --launcher=slurm, which keeps jobs and logs below it; name a "
                      "folder that all nodes share.")
  if root.exists() and not root.is_dir():
    raise WorkdirError(f"--root is {str(root)!r}, which is a file; name a folder.")
  if fault := fault_of_folder(root):
    raise WorkdirError(f"--root is {str(root)!r}, {fault}")
  return SweepPlace(root, given, _SPLIT.value, _JOBS.value)


def _require_flags_that_fit() -> None:
  """Raise ConfigError where one flag cannot go with another."""
  if _LAUNCHER.value == "slurm" and (_RANDOM.value or _OPTUNA.value or _PRINT.value):
    raise ConfigError("--launcher=slurm is given with --random, --optuna or --print; it takes a --grid alone.")
  if _SLURM.value and _LAUNCHER.value != "slurm":
    raise ConfigError(f"--slurm is {_SLURM.value!r}, but --launcher is {_LAUNCHER.value}; add --launcher=slurm.")
  if _RANDOM.value and _OPTUNA.value:
    raise ConfigError("--random and --optuna are both given; drop one.")
  if _OPTUNA.value and _PRINT.value:
    raise ConfigError("--print is given with --optuna, whose points follow from the results of earlier ones; drop one.")


if __name__ == "__main__":
  cli.run(main)
