"""Ranks evaluated runs: one table per data set and split.

  python -m experiments.leaderboard DIR... [--split=test] [--format=text|markdown|latex|csv] [--seeds]
      [--against=MODEL]

DIR is a workdir, or a folder of workdirs. Rows that were scored on different data, or under different conditions, never
share a table. With --format=latex tables use the package booktabs. With --seeds, runs whose config differs in the seed
alone are shown once more, as the mean over their seeds with its 95 % interval over seeds. With --against, every row
says by how much it differs from that model (or run) on the same examples, with the 95 % interval of the paired
difference, and whether it is exact, a bound or an estimate.
Models that tell labels have tables of their own, by accuracy (as csv, where nothing has a likelihood), and so do
samples that experiments.quality compared with the data, with bits/dim beside them (not as csv).
"""

import shutil
import sys
from collections.abc import Sequence

from absl import flags

from experiments.cli import run
from gdm.errors import ConfigError
from gdm.storage import local_copy
from gdm.studies.ranked import ranking_text

_FORMAT = flags.DEFINE_enum("format", "text", ["text", "markdown", "latex", "csv"], "How to print the tables.")
_SPLIT = flags.DEFINE_string("split", None, "The only split to rank; all by default.")
_SEEDS = flags.DEFINE_boolean("seeds", False, "Show means over seeds as well.")
_AGAINST = flags.DEFINE_string("against", None, "A model or a run: show each row's paired difference from it.")


def main(arguments: Sequence[str]) -> None:
  if not arguments:
    raise ConfigError("no folder given; usage: python -m experiments.leaderboard DIR... "
                      "[--format=text|markdown|latex|csv].")
  width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
  print(ranking_text([local_copy(folder, "argument") for folder in arguments], _SPLIT.value, _FORMAT.value, width,
                     with_seeds=_SEEDS.value, against=_AGAINST.value), end="")


if __name__ == "__main__":
  run(main, with_arguments=True)
