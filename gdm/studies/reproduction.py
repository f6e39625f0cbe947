"""Tables of the docs, each row a command or several: what `experiments.reproduce` runs again."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gdm import checks
from gdm.evaluation.report import read_report
from gdm.studies import unseen


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
    settings: of training, as NAME=VALUE of a field.
    scored: of evaluation, likewise.
  """

  label: str
  dataset: str
  config: str
  members: int = 1
  vary: str = "seed"
  folds: int = 0
  settings: tuple[str, ...] = ()
  scored: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ResultTable:
  """A table to run.

  Attributes:
    rows: its rows.
    unit: nats, or bits_per_dim.
  """

  rows: tuple[TableRow, ...]
  unit: str = "nats"


@dataclasses.dataclass(frozen=True)
class Place:
  """Where runs are, and how many.

  Attributes:
    folder: of all workdirs.
    data: of the npz files.
    data_dir: of TFDS data; "" is TFDS's own place.
    seeds: per row; of no account to rows over folds.
  """

  folder: Path
  data: Path
  data_dir: str = ""
  seeds: int = 3

  def repeats(self, row: TableRow) -> Sequence[int]:
    """Return folds, which count from 1, or seeds."""
    return range(1, row.folds + 1) if row.folds else range(self.seeds)

  def workdir(self, row: TableRow, repeat: int) -> Path:
    """Return the folder of a row's result."""
    folder = self.folder / row.dataset / row.label.replace(", ", "_").replace(" ", "_")
    return folder / f"{'fold' if row.folds else 'seed'}_{repeat}"


_BINARY = (
    *(TableRow(f"{model}, binary heads", name, f"configs/autoregressive/{model}.py:{name}")
      for model in ("fvsbn", "nade", "made") for name in ("adult", "dna", "mushrooms")),
    TableRow("made, blocks", "adult", "configs/autoregressive/made.py:adult_blocks", 12, "model.ordering_seed"),
    TableRow("made, blocks", "dna", "configs/autoregressive/made.py:dna_blocks"),
    TableRow("block mixture", "mushrooms", "configs/baselines/block_mixture.py:npz"),
)
_MNIST = tuple(TableRow(model, "", f"configs/autoregressive/{model}.py:binarized_mnist") for model in ("fvsbn", "made"))
_WINE = (
    TableRow("made", "red_wine", "configs/autoregressive/made.py:red_wine", folds=10),
    TableRow("made, 8 orderings", "red_wine", "configs/autoregressive/made_orderings.py:red_wine", folds=10),
    TableRow("rnade", "red_wine", "configs/autoregressive/rnade.py:red_wine", folds=10),
    TableRow("maf", "red_wine", "configs/flows/maf.py:red_wine", folds=10),
    TableRow("spline_autoregressive", "red_wine", "configs/flows/spline_autoregressive.py:red_wine", folds=10),
)
_RBM = (*(TableRow("rbm", name, f"configs/energy/rbm.py:{name}") for name in ("adult", "dna", "mushrooms")),
        TableRow("rbm", "", "configs/energy/rbm.py:binarized_digits"))
# Binary sets that no default was chosen on, but for plants; each model by its defaults for a file.
_DEBD = tuple(
    TableRow(model, f"debd_{name}", f"configs/{family}/{model}.py:npz")
    for name in ("nltcs", "plants", "msweb", "tretail", "baudio", "bnetflix", "cwebkb", "bbc")
    for family, model in (("baselines", "chow_liu"), ("baselines", "mixture"), ("autoregressive", "nade"),
                          ("autoregressive", "made")))
_VARIATIONAL = ("model.dequantization=variational",)
_TWENTY, _THOUSAND = ("evaluation.num_samples=20",), ("evaluation.num_samples=1000",)
# Digits of 17 levels by every family that has a likelihood.
_DIGITS = (
    *(TableRow(model, "", f"configs/baselines/{model}.py:digits")
      for model in ("independent", "markov", "chow_liu", "mixture")),
    *(TableRow(model, "", f"configs/autoregressive/{model}.py:digits")
      for model in ("nade", "made", "transformer", "pixelcnn", "gated_pixelcnn", "pixelcnn_pp", "pixelsnail",
                    "row_lstm", "diagonal_bilstm")),
    *(TableRow(model, "", f"configs/flows/{model}.py:digits", settings=_VARIATIONAL, scored=_TWENTY)
      for model in ("realnvp", "glow", "spline_coupling")),
    TableRow("flow_pp", "", "configs/flows/flow_pp.py:digits", settings=("training.num_steps=1000",), scored=_TWENTY),
    TableRow("integer_flow", "", "configs/flows/integer_flow.py:digits"),
    *(TableRow(model, "", f"configs/discrete_diffusion/{model}.py:digits") for model in ("masked", "ardm", "d3pm")),
    *(TableRow(model, "", f"configs/diffusion/{model}.py:digits")
      for model in ("vdm", "improved_ddpm", "edm", "flow_matching")),
    *(TableRow(model, "", f"configs/latent/{model}.py:digits", scored=_THOUSAND)
      for model in ("vae", "iwae", "hierarchical_vae")),
    TableRow("vqvae", "", "configs/latent/vqvae.py:digits"),
    *(TableRow(model, "", f"configs/energy/{model}.py:digits") for model in ("ebm", "jem")),
)
TABLES = {"binary": ResultTable(_BINARY), "mnist": ResultTable(_MNIST), "wine": ResultTable(_WINE),
          "rbm": ResultTable(_RBM), "debd": ResultTable(_DEBD), "digits": ResultTable(_DIGITS, "bits_per_dim")}


def rows_named(table: ResultTable, labels: Sequence[str]) -> ResultTable:
  """Return a table of the rows with these labels alone; all for none. Raise ConfigError for a label of no row."""
  for label in labels:
    checks.one_of("--only", label, [row.label for row in table.rows])
  return dataclasses.replace(table, rows=tuple(row for row in table.rows if not labels or row.label in labels))


def all_commands(place: Place, table: ResultTable) -> Iterator[list[str]]:
  """Yield the commands of all rows and seeds, or folds, that are not done when they are asked for."""
  for row in table.rows:
    for repeat in place.repeats(row):
      yield from commands(place, row, repeat)


def commands(place: Place, row: TableRow, repeat: int) -> Iterator[list[str]]:
  """Return the commands of one row and seed, or fold, that are not done yet, without the interpreter."""
  result = place.workdir(row, repeat)
  if (result / "likelihood_test.json").exists():
    return
  parts = result.with_name(f"{result.name}_members")  # beside it: a workdir holds nothing of other runs
  members = [parts / str(k) for k in range(row.members)] if row.members > 1 else [result]
  fold = f"#fold={repeat}" if row.folds else ""
  where = [f"--config.data.path={place.data / row.dataset}.npz{fold}"] if row.dataset else [
      f"--config.data.data_dir={place.data_dir}"]
  for k, member in enumerate(members):
    number = k if row.folds else repeat * row.members + k
    yield ["experiments.train", f"--config={row.config}", f"--workdir={member}", *where,
           *(f"--config.{setting}" for setting in row.settings),
           *dict.fromkeys((f"--config.seed={number}", f"--config.{row.vary}={number}"))]
  if row.members > 1:
    yield ["experiments.ensemble", f"--workdir={result}", *map(str, members)]
  for split in ("valid", "test"):
    yield ["experiments.evaluate", f"--workdir={result}", f"--split={split}",
           *(f"--config.{setting}" for setting in row.scored)]


def summary(place: Place, table: ResultTable) -> Iterator[str]:
  """Return a line per row: mean score on both splits, each seed's or fold's on test, and the seconds of training.

  Scores are negative log-likelihoods in nats, or bits/dim. Over folds a second line has the standard error of the mean,
  and the test rows that training did not see.
  """
  for row in table.rows:
    reports = {split: [read_report(place.workdir(row, repeat) / f"likelihood_{split}.json")
                       for repeat in place.repeats(row)] for split in ("valid", "test")}
    valid, test = ([-report["nats_mean"] if table.unit == "nats" else report["bits_per_dim"]
                    for report in reports[split]] for split in ("valid", "test"))
    each = " ".join(f"{score:.3f}" for score in test)
    seconds = np.mean([report["train_seconds"] for report in reports["test"]])
    widths = [report["upper_end"]["nats_apart"] for report in reports["test"] if "upper_end" in report]
    apart = f"  by log Z {np.mean(widths):+.3f}" if widths else ""
    yield (f"{row.dataset or reports['test'][0]['dataset']:12} {row.label:20} valid {np.mean(valid):8.3f}  "
           f"test {np.mean(test):8.3f}  ({each})  {reports['test'][0]['kind']}{apart}  {seconds:6.0f} s")
    if row.folds:
      yield _over_folds(place, row, test)


def _over_folds(place: Place, row: TableRow, test: list[float]) -> str:
  """Return the mean over folds with its standard error, and that of the test rows that training did not see."""
  scores = [unseen.score(place.workdir(row, fold)) for fold in place.repeats(row)]
  means = [-score.nats[score.is_unseen].mean() for score in scores]
  num = sum(int(score.is_unseen.sum()) for score in scores)
  total = sum(score.is_unseen.size for score in scores)
  return (f"{'':12} {'':20} test {_mean_and_error(test)}, its {num} of {total} rows not in training "
          f"{_mean_and_error(means)} over {row.folds} folds")


def _mean_and_error(values: Sequence[float]) -> str:
  return f"{np.mean(values):.3f} (s.e. {np.std(values, ddof=1) / np.sqrt(len(values)):.3f})"
