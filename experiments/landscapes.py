"""Energies of the plane, trained in several ways on several densities: how far each is from the truth, and a picture.

  python -m experiments.landscapes --workdir=runs/landscapes [--targets=ring,banana,spiral] [--seeds=1]
      [--objectives=cd,pcd,nce,sliced,denoising] [--num_steps=5000] [--dry_run]

Every run is a workdir of its own, of configs/energy/ebm.py; what is finished already is not run again. Prints the
Kullback-Leibler divergence of each in nats, by quadrature, and its log Z; denoising score matching is held against the
density of the noised data, which it learns. Writes `landscapes.json`, and `landscapes.png` of the first seed. The
parameters are those of the last step.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from absl import flags

from experiments import cli
from gdm.errors import ConfigError
from gdm.runs.load import load_run
from gdm.runs.plane import Learned, describe, learned, panels, table
from gdm.runs.workdir import Workdir, write_json
from gdm.visualization.landscapes import LandscapeRow, save_landscapes

_WORKDIR = flags.DEFINE_string("workdir", "runs/landscapes", "Folder of the runs.")
_TARGETS = flags.DEFINE_list("targets", ["ring", "banana", "spiral"], "Variants of configs/energy/ebm.py.")
_OBJECTIVES = flags.DEFINE_list("objectives", ["cd", "pcd", "nce", "sliced", "denoising"],
                                "Ways to train.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Runs of each.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 0, "Training steps; 0 is as many as the config says.")
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print the commands, one a line, and run nothing.")

# Where the base is thin, NCE learns from few of its draws: a banana's ends come late.
_LEARNING_RATES = {"nce": 3e-3}


def main() -> None:
  targets, objectives, seeds = _TARGETS.value, _OBJECTIVES.value, range(_SEEDS.value)
  for name, value in (("targets", targets), ("objectives", objectives), ("seeds", seeds)):
    if not value:
      raise ConfigError(f"--{name} is empty; it must be at least one.")
  for target, objective, seed in [(t, o, s) for t in targets for o in objectives for s in seeds]:
    command = _command(target, objective, seed)
    if _DRY_RUN.value:
      print(shlex.join(command))
    elif not _is_done(target, objective, seed) and subprocess.run([sys.executable, "-m", *command],
                                                                  check=False).returncode:
      raise ConfigError(f"this command failed: python -m {shlex.join(command)}")
  if _DRY_RUN.value:
    return

  described, rows = [], []
  for target in targets:
    found: dict[str, Learned] = {}
    for objective, seed in [(o, s) for o in objectives for s in seeds]:
      run = load_run(Workdir(_workdir_of(target, objective, seed)), {}, "last")
      here = learned(run)
      described.append({"target": target, "objective": objective, "seed": seed, **describe(run, here)})
      found.setdefault(objective, here)
    rows.append(LandscapeRow(target, found[objectives[0]].points, panels(found)))
  print("\n".join(table(described)))
  folder = Path(_WORKDIR.value)
  write_json(folder / "landscapes.json", {"runs": described})
  save_landscapes(folder / "landscapes.png", rows)
  print(f"landscapes.json and landscapes.png in {folder}")


def _workdir_of(target: str, objective: str, seed: int) -> Path:
  return Path(_WORKDIR.value) / target / objective / f"seed_{seed}"


def _command(target: str, objective: str, seed: int) -> list[str]:
  """Train one, without the interpreter; few samples, since there is a picture of the whole density."""
  steps = [f"--config.training.num_steps={_NUM_STEPS.value}"] if _NUM_STEPS.value else []
  rate = [f"--config.optimizer.learning_rate={_LEARNING_RATES[objective]}"] if objective in _LEARNING_RATES else []
  return ["experiments.train", f"--config=configs/energy/ebm.py:{target}",
          f"--workdir={_workdir_of(target, objective, seed)}", f"--config.model.objective={objective}",
          f"--config.seed={seed}", "--config.sampling.num=500", *rate, *steps]


def _is_done(target: str, objective: str, seed: int) -> bool:
  """Return whether it has run to the end that is asked for; of another end training itself says what is amiss."""
  step = Workdir(_workdir_of(target, objective, seed)).finished_step()
  return step is not None and _NUM_STEPS.value in (0, step)


if __name__ == "__main__":
  cli.run(main)
