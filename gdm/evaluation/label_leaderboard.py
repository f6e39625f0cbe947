"""Models by how well they tell labels: one table for each split, by the fingerprint of its examples."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from gdm import checks
from gdm.evaluation.intervals import brackets, plus_minus
from gdm.evaluation.label_report import LABELS, read_label_report
from gdm.evaluation.leaderboard import run_names
from gdm.evaluation.leaderboard_tables import Column, escape, latex_lines, markdown_lines, text_lines
from gdm.evaluation.report import Report, read_report

_SHEET: tuple[str, ...] = ("dataset", "split", "data_fingerprint", "num_examples", "rank", "model",
                          *LABELS, "num_params", "train_seconds", "parameters", "run")


class LabelRow(NamedTuple):
  """A report with labels, and the name of its run."""

  run: str
  report: Report


class LabelTable(NamedTuple):
  """Comparable rows, the most accurate first."""

  rows: tuple[LabelRow, ...]

  @property
  def title(self) -> str:
    first = self.rows[0].report
    names = sorted({row.report["dataset"] for row in self.rows})
    return " · ".join([", ".join(names), first["split"], "p(y | x)", f"{first['num_examples']:,} examples",
                       f"data {first['data_fingerprint'][:16]}"])


COLUMNS = (
    Column("model", lambda row: row.report["model"], is_number=False),
    Column("accuracy, 95 %", lambda row: brackets(row.report["labels"]["accuracy"],
                                                  row.report["labels"]["accuracy_ci95"])),
    Column("nats ± 95 %", lambda row: plus_minus(row.report["labels"]["nats_mean"], row.report["labels"]["nats_ci95"])),
    Column("calibration error", lambda row: f"{row.report['labels']['calibration_error']:.4f}"),
    Column("Brier ± 95 %", lambda row: _brier(row.report["labels"])),
    Column("params", lambda row: f"{row.report['num_params']:,}"),
    Column("train s", lambda row: f"{row.report['train_seconds']:,.1f}"),
    Column("weights", lambda row: row.report["parameters"], is_number=False),
    Column("run", lambda row: row.run, is_number=False),
)


def collect(workdirs: Iterable[str | os.PathLike], split: str | None = None) -> list[LabelTable]:
  """Read every `labels_*.json` at and below `workdirs`, and likelihood reports that say how well labels are told.

  Args:
    workdirs: folders of runs, or folders of such folders.
    split: the only split to collect; None collects all.

  Raise DataError where a report is damaged.
  """
  found: dict[Path, Report] = {}
  for workdir in map(Path, workdirs):
    found |= {path.resolve(): read_label_report(path) for path in workdir.rglob("labels_*.json")}
    found |= {path.resolve(): report for path in workdir.rglob("likelihood_*.json")
              if "labels" in (report := read_report(path))}
  reports = {path: found[path] for path in sorted(found) if split in (None, found[path]["split"])}
  if not reports:
    return []
  runs, groups = run_names(path.parent for path in reports), defaultdict(list)
  for path, report in reports.items():
    groups[report["split"], report["data_fingerprint"], report["num_examples"]].append(
        LabelRow(runs[path.parent], report))
  tables = [LabelTable(tuple(sorted(groups[key], key=_place))) for key in sorted(groups)]
  return sorted(tables, key=lambda table: table.title)


def render(tables: Sequence[LabelTable], style: str = "text", width: int | None = None) -> str:
  """Return the tables as `text`, `markdown`, `latex` or `csv`; see `gdm.evaluation.leaderboard_tables.render`."""
  checks.one_of("format", style, ("text", "markdown", "latex", "csv"))
  if style == "csv":
    return _csv(tables)
  if style == "markdown":
    parts = [[f"**{escape(table.title)}**", "", *markdown_lines(COLUMNS, table.rows)] for table in tables]
  elif style == "latex":
    parts = [latex_lines(table.title, COLUMNS, table.rows) for table in tables]
  else:
    parts = [[table.title, *text_lines(COLUMNS, table.rows, width)] for table in tables]
  return "\n".join("\n".join(lines) + "\n" for lines in parts)


def _place(row: LabelRow) -> tuple[float, float, str]:
  """Return the key that rows of a table are sorted by."""
  labels = row.report["labels"]
  return -labels["accuracy"], -labels["nats_mean"], row.run


def _brier(labels: Report) -> str:
  """Return the Brier score, "" in a report of before it was written."""
  return plus_minus(labels["brier"], labels["brier_ci95"]) if "brier" in labels else ""


def _csv(tables: Sequence[LabelTable]) -> str:
  out = io.StringIO()
  writer: csv.DictWriter[str] = csv.DictWriter(out, _SHEET, extrasaction="ignore", lineterminator="\n")
  writer.writeheader()
  for table in tables:
    for rank, row in enumerate(table.rows, start=1):
      writer.writerow({**row.report, **row.report["labels"], "rank": rank, "run": row.run})
  return out.getvalue()
