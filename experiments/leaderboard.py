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

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags, logging

from experiments.cli import run
from gdm.errors import ConfigError, WorkdirError
from gdm.evaluation import label_leaderboard, leaderboard, leaderboard_tables, quality_leaderboard
from gdm.runs.workdir import Workdir, training_fields
from gdm.storage import local_copy

_FORMAT = flags.DEFINE_enum("format", "text", ["text", "markdown", "latex", "csv"], "How to print the tables.")
_SPLIT = flags.DEFINE_string("split", None, "The only split to rank; all by default.")
_SEEDS = flags.DEFINE_boolean("seeds", False, "Show means over seeds as well.")
_AGAINST = flags.DEFINE_string("against", None, "A model or a run: show each row's paired difference from it.")


def main(argv: Sequence[str]) -> None:
  workdirs = argv[1:]
  if not workdirs:
    raise ConfigError("no folder given; usage: python -m experiments.leaderboard DIR... "
                      "[--format=text|markdown|latex|csv].")
  workdirs = [str(local_copy(folder, "argument")) for folder in workdirs]
  width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
  labels = label_leaderboard.collect(workdirs, _SPLIT.value)
  quality = quality_leaderboard.collect(workdirs, _SPLIT.value) if _FORMAT.value != "csv" else []
  tables = leaderboard.collect(workdirs, _SPLIT.value, may_be_none=bool(labels or quality))
  if _SEEDS.value:
    folders = {row.folder for table in tables for row in table.rows}
    tables = leaderboard.with_seed_means(tables, read_trials(sorted(folders)))
  if _AGAINST.value and tables:
    tables = leaderboard.with_differences(tables, _AGAINST.value)
  parts = [leaderboard_tables.render(tables, _FORMAT.value, width)] * bool(tables)
  if labels and (not tables or _FORMAT.value != "csv"):
    parts.append(label_leaderboard.render(labels, _FORMAT.value, width))
  if quality:
    parts.append(quality_leaderboard.render(quality, _FORMAT.value, width))
  print("\n".join(parts), end="")


def read_trials(folders: Iterable[Path]) -> dict[Path, leaderboard.SeededRun]:
  """Return what was run in each folder, by the config beside its reports; folders without a readable one are left
  out."""
  trials = {}
  for folder in folders:
    try:
      fields = training_fields(Workdir(folder).read_config())
    except WorkdirError as error:
      logging.warning("%s Its run is in no mean over seeds.", error)
      continue
    seed = fields.pop("seed")
    trials[folder] = leaderboard.SeededRun(json.dumps(fields, sort_keys=True), seed)
  return trials


if __name__ == "__main__":
  run(main)
