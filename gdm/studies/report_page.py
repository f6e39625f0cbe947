"""One page about many runs: tables by data and split, curves, samples, paired differences, coded against claimed."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gdm.errors import WorkdirError
from gdm.evaluation import label_leaderboard, leaderboard, quality_leaderboard
from gdm.evaluation.leaderboard import Ranking, run_names
from gdm.evaluation.leaderboard_tables import Column, columns
from gdm.evaluation.report import relation
from gdm.likelihood import Kind
from gdm.runs.workdir import PICTURES
from gdm.training.metrics import read_metrics
from gdm.visualization.compared_curves import compared_curves
from gdm.visualization.figures import figure_bytes
from gdm.visualization.page import PagePicture, PageSection, PageTable, save_page

# Further pictures that commands leave in a workdir.
_MORE_PICTURES = ("completions.png", "neighbours.png", "nfe.png", "trajectory.png", "interpolations.png",
                  "calibration.png")

_CODED = (
    Column("model", lambda row: row.report["model"], is_number=False),
    Column("claimed bits/dim", lambda row: relation(Kind(row.report["kind"])) + f"{row.report['bits_per_dim']:.4f}"),
    Column("coded bits/dim", lambda row: f"{row.coded:.4f}"),
    Column("coded - claimed", lambda row: f"{row.coded - row.report['bits_per_dim']:+.4f}"),
    Column("more, %", lambda row: f"{100.0 * (row.coded / row.report['bits_per_dim'] - 1.0):+.2f}"),
    Column("kind of the claim", lambda row: row.report["kind"].replace("_", " "), is_number=False),
    Column("run", lambda row: row.run, is_number=False),
)


def save_report_page(path: str | os.PathLike, folders: Iterable[str | os.PathLike], title: str = "Runs") -> int:
  """Write the page, and return how many runs it shows.

  Args:
    path: the HTML file.
    folders: workdirs, or folders of workdirs.
    title: of the page.

  Raises:
    WorkdirError: a folder is missing, nothing in them is a run, or the page cannot be written.
    DataError: a report is damaged.
  """
  folders = [Path(folder) for folder in folders]
  tables = leaderboard.collect(folders, may_be_none=True)
  labels, quality = label_leaderboard.collect(folders), quality_leaderboard.collect(folders)
  runs = _run_folders(folders)
  if not runs and not tables:
    raise WorkdirError(f"no run and no report in {', '.join(map(str, folders))}; name workdirs that experiments.train "
                       "made.")
  sections = [_likelihoods(table) for table in tables]
  sections += [_other(table.title, table.rows[0].report, label_leaderboard.COLUMNS, table.rows) for table in labels]
  sections += [_other(table.title, table.about, quality_leaderboard.columns(table), table.rows) for table in quality]
  names = {row.folder: row.report["dataset"] for table in tables for row in table.rows}
  sections += [_pictures(name, folder, names.get(folder)) for folder, name in runs.items()]
  save_page(path, title, [section for section in sections if section.tables or section.pictures])
  return len(set(runs) | {row.folder for table in tables for row in table.rows})


def _run_folders(folders: Sequence[Path]) -> dict[Path, str]:
  """Return the workdirs at and below folders, with their names."""
  found = sorted({path.parent.resolve() for folder in folders for path in folder.rglob("config.json")
                  if (path.parent / "checkpoints").is_dir() or (path.parent / "finished.json").is_file()})
  return run_names(found) if found else {}


def _likelihoods(table: Ranking) -> PageSection:
  """Return a table with differences from its best row, what was coded, and the validation curves of its runs."""
  compared = leaderboard.with_differences_from_best(table)
  tables = [dataclasses.replace(_table(columns(compared), compared.rows), notes=compared.notes)]
  coded = [row for row in table.rows if row.coded is not None]
  if table.is_discrete and coded:
    tables.append(_table(_CODED, coded, "Coded against claimed"))
  return PageSection(table.title, _groups(table.first), tables, _curves(table))


def _other(title: str, about: Mapping[str, Any], shown: Sequence[Column], rows: Sequence[Any]) -> PageSection:
  return PageSection(title, _groups(about), [_table(shown, rows)])


def _groups(report: Mapping[str, Any]) -> dict[str, str]:
  return {"data": report["dataset"], "split": report["split"]}


def _table(shown: Sequence[Column], rows: Sequence[Any], caption: str = "") -> PageTable:
  return PageTable([column.heading for column in shown], [[column.cell(row) for column in shown] for row in rows],
                   [column.is_number for column in shown], caption)


def _curves(table: Ranking) -> list[PagePicture]:
  """Return the validation curves of a table's runs, where some were logged."""
  rows = {row.run: read_metrics(row.folder / "metrics.jsonl") for row in table.rows}
  metric, label, sign = (("valid/bits_per_dim", "bits/dim", 1.0) if table.is_discrete else
                         ("valid/nats", "negative log-likelihood (nats per example)", -1.0))
  figure = compared_curves(rows, metric, f"validation, {label}", sign)
  if figure is None:
    return []
  return [PagePicture(f"Validation of {', '.join(rows)}", figure_bytes(figure, ".svg"), ".svg")]


def _pictures(name: str, folder: Path, dataset: str | None) -> PageSection:
  """Return the pictures that commands left in a workdir; its data set is known where it was scored."""
  found = [folder / picture for picture in (*PICTURES, *_MORE_PICTURES) if (folder / picture).is_file()]
  return PageSection(name, {"data": dataset} if dataset else {}, (),
                     [PagePicture.read(path, f"{name} · {path.stem}") for path in found])
