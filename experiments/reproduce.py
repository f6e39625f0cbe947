"""Runs a table of the README again: trains, scores and ranks every row, three seeds each, or once on each fold.

  python -m experiments.reproduce --table=binary --data=../shared/data --workdir=runs/binary [--dry_run]
  python -m experiments.reproduce --table=wine --data=../shared/data --workdir=runs/wine

Every run is a workdir of its own; what is finished already is not run again. Ends with the mean test NLL of each row
over its seeds; over folds with the standard error of that mean, and the test rows that do not occur in training apart.
All settings stand in the configs, and none was chosen on a test split.
"""

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments import cli
from gdm.errors import ConfigError
from gdm.evaluation.report import read_report
from gdm.runs import unseen

_TABLE = flags.DEFINE_enum("table", "binary", ["binary", "mnist", "wine", "rbm"], "Which table.")
_DATA = flags.DEFINE_string("data", "../shared/data", "Folder of the npz files.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where TFDS data lies; \"\" is TFDS's own place.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/tables", "Folder of the runs.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds per row; of no account to tables over folds.")
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print the commands, one a line, and run nothing.")


@dataclasses.dataclass(frozen=True)
class TableRow:
  """One row: a model on a set, alone or as a mixture of `members` runs that differ in `vary`.

  A row over folds is run once on each; members then have the same seeds in all of them.

  Attributes:
    label: what the row is called.
    dataset: file of the set without .npz, or "" where the config says it all.
    config: --config.
    members: runs per seed; more than one are mixed with weights fitted on the validation split.
    vary: the field that tells the members apart.
    folds: number of folds of the set; 0 where it comes split.
  """

  label: str
  dataset: str
  config: str
  members: int = 1
  vary: str = "seed"
  folds: int = 0

  @property
  def repeats(self) -> Sequence[int]:
    """Folds, which count from 1, or seeds."""
    return range(1, self.folds + 1) if self.folds else range(_SEEDS.value)


BINARY = (
    *(TableRow(f"{model}, binary heads", name, f"configs/autoregressive/{model}.py:{name}")
      for model in ("fvsbn", "nade", "made") for name in ("adult", "dna", "mushrooms")),
    TableRow("made, blocks", "adult", "configs/autoregressive/made.py:adult_blocks", 12, "model.ordering_seed"),
    TableRow("made, blocks", "dna", "configs/autoregressive/made.py:dna_blocks"),
    TableRow("block mixture", "mushrooms", "configs/baselines/block_mixture.py:npz"),
)
MNIST = tuple(TableRow(model, "", f"configs/autoregressive/{model}.py:binarized_mnist") for model in ("fvsbn", "made"))
WINE = (
    TableRow("made", "red_wine", "configs/autoregressive/made.py:red_wine", folds=10),
    TableRow("made, 8 orderings", "red_wine", "configs/autoregressive/made_orderings.py:red_wine", folds=10),
    TableRow("rnade", "red_wine", "configs/autoregressive/rnade.py:red_wine", folds=10),
    TableRow("maf", "red_wine", "configs/flows/maf.py:red_wine", folds=10),
    TableRow("spline_autoregressive", "red_wine", "configs/flows/spline_autoregressive.py:red_wine", folds=10),
)
RBM = (*(TableRow("rbm", name, f"configs/energy/rbm.py:{name}") for name in ("adult", "dna", "mushrooms")),
       TableRow("rbm", "", "configs/energy/rbm.py:binarized_digits"))
TABLES = {"binary": BINARY, "mnist": MNIST, "wine": WINE, "rbm": RBM}


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise ConfigError(f"unexpected arguments {argv[1:]}; this binary takes flags alone.")
  for row, repeat in [(each, repeat) for each in TABLES[_TABLE.value] for repeat in each.repeats]:
    for command in commands(row, repeat):
      if _DRY_RUN.value:
        print(shlex.join(command))
      elif subprocess.run([sys.executable, "-m", *command], check=False).returncode:
        raise ConfigError(f"this command failed: python -m {shlex.join(command)}")
  if not _DRY_RUN.value:
    print("\n".join(summary()))


def workdir_of(row: TableRow, repeat: int) -> Path:
  """Return the folder of a row's result."""
  folder = Path(_WORKDIR.value) / row.dataset / row.label.replace(", ", "_").replace(" ", "_")
  return folder / f"{'fold' if row.folds else 'seed'}_{repeat}"


def commands(row: TableRow, repeat: int) -> Iterator[list[str]]:
  """Return the commands of one row and seed, or fold, that are not done yet, without the interpreter."""
  result = workdir_of(row, repeat)
  if (result / "likelihood_test.json").exists():
    return
  parts = result.with_name(f"{result.name}_members")  # beside it: a workdir holds nothing of other runs
  members = [parts / str(k) for k in range(row.members)] if row.members > 1 else [result]
  fold = f"#fold={repeat}" if row.folds else ""
  where = [f"--config.data.path={Path(_DATA.value) / row.dataset}.npz{fold}"] if row.dataset else [
      f"--config.data.data_dir={_DATA_DIR.value}"]
  for k, member in enumerate(members):
    number = k if row.folds else repeat * row.members + k
    yield ["experiments.train", f"--config={row.config}", f"--workdir={member}", *where,
           *dict.fromkeys((f"--config.seed={number}", f"--config.{row.vary}={number}"))]
  if row.members > 1:
    yield ["experiments.ensemble", f"--workdir={result}", *map(str, members)]
  yield ["experiments.evaluate", f"--workdir={result}", "--split=valid"]
  yield ["experiments.evaluate", f"--workdir={result}", "--split=test"]


def summary() -> Iterator[str]:
  """Return a line per row: mean NLL on both splits, each seed's or fold's test NLL, and the seconds of training."""
  for row in TABLES[_TABLE.value]:
    reports = {split: [read_report(workdir_of(row, repeat) / f"likelihood_{split}.json") for repeat in row.repeats]
               for split in ("valid", "test")}
    valid, test = ([-report["nats_mean"] for report in reports[split]] for split in ("valid", "test"))
    each = " ".join(f"{nll:.3f}" for nll in test)
    seconds = np.mean([report["train_seconds"] for report in reports["test"]])
    widths = [report["upper_end"]["nats_apart"] for report in reports["test"] if "upper_end" in report]
    apart = f"  by log Z {np.mean(widths):+.3f}" if widths else ""
    yield (f"{row.dataset or reports['test'][0]['dataset']:12} {row.label:20} valid {np.mean(valid):8.3f}  "
           f"test {np.mean(test):8.3f}  ({each}){apart}  {seconds:6.0f} s")
    if row.folds:
      yield _over_folds(row, test)


def _over_folds(row: TableRow, test: list[float]) -> str:
  """Return the mean over folds with its standard error, and that of the test rows that training did not see."""
  scores = [unseen.score(workdir_of(row, fold)) for fold in row.repeats]
  means = [-score.nats[score.is_unseen].mean() for score in scores]
  num = sum(int(score.is_unseen.sum()) for score in scores)
  total = sum(score.is_unseen.size for score in scores)
  return (f"{'':12} {'':20} test {_mean_and_error(test)}, its {num} of {total} rows not in training "
          f"{_mean_and_error(means)} over {row.folds} folds")


def _mean_and_error(values: Sequence[float]) -> str:
  return f"{np.mean(values):.3f} (s.e. {np.std(values, ddof=1) / np.sqrt(len(values)):.3f})"


if __name__ == "__main__":
  cli.run(main)
