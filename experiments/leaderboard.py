"""Ranks evaluated runs: one table per data set and split.

  python -m experiments.leaderboard DIR... [--split=test] [--format=text|markdown|csv]

DIR is a workdir, or a folder of workdirs. Rows that were scored on different data, or under different conditions, never
share a table.
"""

import shutil
import sys
from collections.abc import Sequence

from absl import flags

from experiments.cli import run
from gdm.errors import ConfigError
from gdm.evaluation import leaderboard

_FORMAT = flags.DEFINE_enum("format", "text", ["text", "markdown", "csv"], "How to print the tables.")
_SPLIT = flags.DEFINE_string("split", None, "The only split to rank; all by default.")


def main(argv: Sequence[str]) -> None:
  workdirs = argv[1:]
  if not workdirs:
    raise ConfigError("no folder given; usage: python -m experiments.leaderboard DIR... [--format=text|markdown|csv].")
  width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
  print(leaderboard.render(leaderboard.collect(workdirs, _SPLIT.value), _FORMAT.value, width), end="")


if __name__ == "__main__":
  run(main)
