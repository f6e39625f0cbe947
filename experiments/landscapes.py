"""Energies of the plane, trained in several ways on several densities: how far each is from the truth, and a picture.

  python -m experiments.landscapes --workdir=runs/landscapes [--targets=ring,banana,spiral] [--seeds=1]
      [--objectives=cd,pcd,nce,sliced,denoising] [--num_steps=5000] [--dry_run]

Every run is a workdir of its own, of configs/energy/ebm.py; what is finished already is not run again. Prints the
Kullback-Leibler divergence of each in nats, by quadrature, and its log Z; denoising score matching is held against the
density of the noised data, which it learns. Writes `landscapes.json`, and `landscapes.png` of the first seed. The
parameters are those of the last step.
"""

from pathlib import Path

from absl import flags

from configs.energy import ebm
from experiments import cli
from gdm import checks
from gdm.studies.landscapes import Study
from gdm.studies.subcommands import run_each

_WORKDIR = flags.DEFINE_string("workdir", "runs/landscapes", "Folder of the runs.")
_TARGETS = flags.DEFINE_list("targets", ["ring", "banana", "spiral"], "Variants of configs/energy/ebm.py.")
_OBJECTIVES = flags.DEFINE_list("objectives", ["cd", "pcd", "nce", "sliced", "denoising"],
                                "Ways to train.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Runs of each.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 0, "Training steps; 0 is as many as the config says.")
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print the commands, one a line, and run nothing.")


def main() -> None:
  for target in _TARGETS.value:
    checks.one_of("--targets", target, ebm.VARIANTS)
  study = Study(Path(_WORKDIR.value), tuple(_TARGETS.value), tuple(_OBJECTIVES.value), _SEEDS.value, _NUM_STEPS.value)
  cli.show(run_each(study.commands(with_done=_DRY_RUN.value), _DRY_RUN.value))
  if not _DRY_RUN.value:
    print("\n".join(study.compare()))


if __name__ == "__main__":
  cli.run(main)
