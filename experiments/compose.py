"""Multiplies the densities of finished runs, by the sum of their energies.

  python -m experiments.compose --workdir=runs/both runs/left runs/right [--weights=1,1]

log f(x) = sum_i w_i log f_i(x), of energy-based models of real numbers (ebm, jem, tilted) on data of the same kind, say
of the same size: what one run knows of one thing and another of another, the product knows of both. So the runs' data
may differ; but no run may have been trained on validation or test examples of the first, whose data, settings of
annealing and way of scoring the product keeps. The result is a workdir like any other, with its pictures: evaluate,
sample and leaderboard take it.
"""

from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm.studies.product import multiply_runs

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the product; made if absent.")
_WEIGHTS = flags.DEFINE_string("weights", "", "A positive weight of each run's energy, as 1,0.5; all 1 by default.")


def main(arguments: Sequence[str]) -> None:
  cli.show(multiply_runs(cli.require_flag("workdir"), arguments, _WEIGHTS.value))


if __name__ == "__main__":
  cli.run(main, with_arguments=True)
