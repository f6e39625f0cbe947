"""Runs a table of the docs again: trains, scores and ranks every row, three seeds each, or once on each fold.

  python -m experiments.reproduce --table=binary --data=../shared/data --workdir=runs/binary [--dry_run]
  python -m experiments.reproduce --table=digits --workdir=runs/digits --seeds=1 [--only=vdm,made]

Tables are binary, debd (binary sets by defaults), mnist, digits (every family with a likelihood, in bits/dim), rbm and
wine. Every run is a workdir of its own; what is finished already is not run again. Ends with the mean test score of
each row over its seeds; over folds with the standard error of that mean, and the test rows that do not occur in
training apart. All settings stand in the configs and in gdm/studies/reproduction.py; none was chosen on a test split.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from gdm.studies.reproduction import TABLES, Place, all_commands, rows_named, summary
from gdm.studies.subcommands import run_each

_TABLE = flags.DEFINE_enum("table", "binary", sorted(TABLES), "Which table.")
_ONLY = flags.DEFINE_list("only", [], "Labels of the rows to run; all for none.")
_DATA = flags.DEFINE_string("data", "../shared/data", "Folder of the npz files.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where TFDS data lies; \"\" is TFDS's own place.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/tables", "Folder of the runs.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds per row; of no account to tables over folds.", lower_bound=1)
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print the commands, one a line, and run nothing.")


def main() -> None:
  table = rows_named(TABLES[_TABLE.value], _ONLY.value)
  place = Place(Path(_WORKDIR.value), Path(_DATA.value), _DATA_DIR.value, _SEEDS.value)
  cli.show(run_each(all_commands(place, table), _DRY_RUN.value))
  if not _DRY_RUN.value:
    print("\n".join(summary(place, table)))


if __name__ == "__main__":
  cli.run(main)
