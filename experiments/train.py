"""Trains one model from a config into a workdir; the same command again resumes.

  python -m experiments.train --config=configs/autoregressive/made.py:digits --workdir=runs/made
      [--config.optimizer.learning_rate=3e-4 ...] [--max_seconds=3600] [--profile_steps=10:15] [--search=5m]
      [--init_from=runs/other] [--track=wandb|mlflow]
      [--coordinator=HOST:PORT --num_processes=N --process_id=I]

After the colon stands the data set, one of the config's variants. Every field of the config can be overridden as
--config.<section>.<field>=<value>; the fields are listed in gdm/runs/defaults.py and in the config's own file.

The workdir gets config.json, checkpoints (the last ones, and the best by validation), metrics.jsonl, events for
TensorBoard, curves.png and samples.png. With --search the settings that the config's section `search` lists are first
tried for so long on the validation split (gdm/runs/search.py), and reports name what was chosen. Several processes,
one per host, share a workdir; a cluster that JAX knows needs no --coordinator.

A run is trained for longer by a larger --config.training.num_steps. --init_from begins with the weights of another run
and says which were taken; how the data's file is called, and where it lies, may change, its content not.

Ctrl-C, SIGTERM (of a queue, or a machine that is taken away) and --max_seconds end it within a step. Before each
validation the state is saved, so that validations and pictures are cut at once; the next start does them again.

Exit codes: 0 finished, 2 bad input, 75 interrupted and saved: run it again to resume.
"""

import functools
import time

import jax
from absl import flags
from ml_collections import config_flags

from experiments import cli, hosts
from gdm.errors import ConfigError
from gdm.runs import exits, training
from gdm.runs.allocation import keep_freed_memory, limit_threads, will_run_on_cpu
from gdm.runs.profile import Profile
from gdm.runs.search import parse_budget, searched
from gdm.runs.settings import check_settings, with_defaults, within_run
from gdm.runs.sizes import keep_settings
from gdm.runs.workdir import Workdir
from gdm.training.preemption import Interruption

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<family>/<model>.py:<dataset>", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run, also at gs:// or s3://; made if absent.")
_MAX_SECONDS = flags.DEFINE_float("max_seconds", None, "Save and exit with 75 after so many seconds, for queue limits.")
_THREADS = flags.DEFINE_integer("threads", None, "Of a CPU; one for each core by default. Small models are faster with "
                                "1.")
_SEARCH = flags.DEFINE_string("search", None, "First choose settings on the validation split for so long: 90s, 5m, "
                              "1h; see gdm/runs/search.py.")
_INIT_FROM = flags.DEFINE_string("init_from", None, "Another run, or a file that experiments.export wrote: start from "
                                 "its weights as far as they fit; the same as --config.training.init_from.")
_TRACK = flags.DEFINE_string("track", None, "wandb or mlflow: record metrics, settings and pictures there too; the "
                             "same as --config.training.track.")
_PROFILE = flags.DEFINE_string("profile_steps", None, "FIRST:LAST, steps to trace into <workdir>/profile.")

_START = time.monotonic()


def main() -> int:
  cli.require_flag("config")
  workdir = Workdir(cli.require_flag("workdir"))
  config = keep_settings(with_defaults(_CONFIG.value), cli.overrides())
  if _INIT_FROM.value is not None:
    config.training.init_from = _INIT_FROM.value
  if _TRACK.value is not None:
    config.training.track = _TRACK.value
  check_settings(config)
  warmup, steps = config.optimizer.warmup_steps, config.training.num_steps
  if "optimizer.warmup_steps" in cli.overrides() and warmup >= steps:  # a config's own gives way to a short run
    raise ConfigError(f"optimizer.warmup_steps is {warmup}; it must be at least 0 and below num_steps ({steps}).")
  if _MAX_SECONDS.value is not None and not _MAX_SECONDS.value > 0:
    raise ConfigError(f"--max_seconds is {_MAX_SECONDS.value}; it must be above 0.")
  cli.at_least(threads=1)
  budget = None if _SEARCH.value is None else parse_budget(_SEARCH.value)
  steps_per_call = within_run(config).training.steps_per_call
  profile = _PROFILE.value and Profile(_PROFILE.value, workdir.path / "profile", steps_per_call)
  if will_run_on_cpu():
    keep_freed_memory()
    if _THREADS.value is not None:
      limit_threads(_THREADS.value)
  hosts.join()
  training.require_same_config(config)
  with Interruption(exits.stop, _MAX_SECONDS.value, _START) as interruption:
    if budget is not None:
      if workdir.mirror is not None:
        raise ConfigError(f"--search is given with the workdir {workdir.name}; a search is kept in a folder beside the "
                          "workdir, which must be of this machine.")
      if jax.process_count() > 1:
        raise ConfigError(f"--search is given to {jax.process_count()} processes; a search takes one.")
      config = searched(config, workdir, budget, functools.partial(training.trial, interruption))
    return training.train(config, workdir, profile or None, interruption)


if __name__ == "__main__":
  cli.run(main, precise=False)
