"""Likelihood reports of many runs, ranked in tables that never mix what cannot be compared.

A table is one data set, split, fingerprint of its examples and condition. Rows stand best first; a bound stands where
its value puts it and wears its relation to the truth (≤, ≥, ≈).
"""

import csv
import dataclasses
import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gdm.errors import ConfigError, WorkdirError, nearest
from gdm.evaluation.report import Report, bits_text, given_text, nats_text, read_report


@dataclasses.dataclass(frozen=True)
class Row:
  """One report and the run that it came from."""

  run: str
  report: Report


@dataclasses.dataclass(frozen=True)
class Table:
  """Comparable rows, best first."""

  rows: tuple[Row, ...]

  @property
  def first(self) -> Report:
    return self.rows[0].report

  @property
  def is_discrete(self) -> bool:
    return self.first["bits_per_dim"] is not None

  @property
  def title(self) -> str:
    report = self.first
    return " · ".join([report["dataset"], report["split"], *given_text(report), f"{report['num_examples']:,} examples",
                       f"data {report['data_fingerprint'][:16]}"])


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of the text and markdown tables: its heading, its cells, and whether they are numbers."""

  heading: str
  cell: Callable[[Row], str]
  is_number: bool = True


_MODEL = Column("model", lambda row: row.report["model"], is_number=False)
_BITS = Column("bits/dim ± 95 %", lambda row: bits_text(row.report))
_NATS = Column("nats ± 95 %", lambda row: nats_text(row.report))
_REST = (
    Column("kind", lambda row: row.report["kind"].replace("_", " "), is_number=False),
    Column("params", lambda row: f"{row.report['num_params']:,}"),
    Column("train s", lambda row: f"{row.report['train_seconds']:,.1f}"),
    Column("draws", lambda row: str(row.report["num_draws"])),
    Column("weights", lambda row: row.report["parameters"], is_number=False),
    Column("run", lambda row: row.run, is_number=False),
)

_SHEET: tuple[str, ...] = ("dataset", "split", "given", "data_fingerprint", "rank", "model", "bits_per_dim",
                           "bits_per_dim_stderr", "nats_mean", "nats_stderr", "kind", "num_params", "train_seconds",
                           "num_draws", "parameters", "step", "num_examples", "num_dims", "run")


def collect(workdirs: Iterable[str | os.PathLike], split: str | None = None) -> list[Table]:
  """Reads every `likelihood_*.json` at and below `workdirs` into tables, by data set and split.

  Args:
    workdirs: folders of runs, or folders of such folders; what is found twice counts once.
    split: the only split to collect; None collects all.

  Raises:
    WorkdirError: a folder does not exist, or no report was found.
    DataError: a report is damaged.
  """
  workdirs = [Path(workdir) for workdir in workdirs]
  for workdir in workdirs:
    if not workdir.is_dir():
      raise WorkdirError(f"{workdir} is not a folder; the leaderboard takes workdirs of evaluated runs.")
  paths = sorted({path.resolve() for workdir in workdirs for path in workdir.rglob("likelihood_*.json")})
  reports = [(path, read_report(path)) for path in paths]
  reports = [(path, report) for path, report in reports if split in (None, report["split"])]
  if not reports:
    where = ", ".join(map(str, workdirs))
    raise WorkdirError(f"no likelihood_{split or '*'}.json in {where}; run experiments.evaluate on the workdirs first.")

  runs = _run_names([path.parent for path, _ in reports])
  groups = defaultdict(list)
  for path, report in reports:
    # A part of a split is not comparable with the whole, so the number of examples divides tables too.
    key = (report["dataset"], report["split"], tuple(report["given"]), report["data_fingerprint"],
           report["num_examples"], report["bits_per_dim"] is None)
    groups[key].append(Row(runs[path.parent], report))
  # Within a table all rows have the same dimensions, so that the most nats are the fewest bits/dim.
  return [Table(tuple(sorted(groups[key], key=lambda row: (-row.report["nats_mean"], row.run))))
          for key in sorted(groups)]


def render(tables: Sequence[Table], style: str = "text", width: int | None = None) -> str:
  """The tables as `text`, `markdown` or `csv`.

  `width` is the number of characters that a line of text should fit in: the names of runs are shortened for it, and
  nothing else; None means as wide as needed. Raises ConfigError for an unknown style.
  """
  if style not in _STYLES:
    raise ConfigError(f"format is {style!r}; {nearest(style, _STYLES)}")
  return _STYLES[style](tables, width)


def _run_names(folders: Iterable[Path]) -> dict[Path, str]:
  """Each folder by its path below what all have in common, or by its own name where there is only one."""
  folders = set(folders)
  common = Path(os.path.commonpath([folder.parent for folder in folders]))
  return {folder: str(folder.relative_to(common)) for folder in folders}


def _columns(table: Table) -> tuple[Column, ...]:
  return (_MODEL, *([_BITS] if table.is_discrete else []), _NATS, *_REST)


def _text(tables: Sequence[Table], width: int | None) -> str:
  return "\n".join(_text_table(table, width) for table in tables)


def _text_table(table: Table, width: int | None) -> str:
  columns = _columns(table)
  cells = [[column.heading for column in columns], *([column.cell(row) for column in columns] for row in table.rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  if width is not None:  # the run is the last column; what tells runs apart is mostly at the end of their paths
    widths[-1] = min(widths[-1], max(len("run"), width - sum(widths[:-1]) - 2 * (len(widths) - 1)))
  right = [column.is_number for column in columns]
  heading, *lines = ["  ".join(map(_fit, line, widths, right)).rstrip() for line in cells]
  return "\n".join([table.title, heading, "  ".join("─" * size for size in widths), *lines]) + "\n"


def _fit(text: str, size: int, to_the_right: bool) -> str:
  text = text if len(text) <= size else "…" + text[len(text) - size + 1:]
  return text.rjust(size) if to_the_right else text.ljust(size)


def _markdown(tables: Sequence[Table], width: int | None) -> str:
  del width  # markdown is laid out by its reader
  return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
  columns = _columns(table)
  lines = [[column.heading for column in columns], ["---:" if column.is_number else "---" for column in columns],
           *([_escape(column.cell(row)) for column in columns] for row in table.rows)]
  return "\n".join([f"**{_escape(table.title)}**", "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def _escape(text: str) -> str:
  return text.replace("|", "\\|")


def _csv(tables: Sequence[Table], width: int | None) -> str:
  """One sheet with full precision for programs; the leading columns name the table, and ranks start anew in each."""
  del width
  out = io.StringIO()
  writer = csv.DictWriter(out, _SHEET, extrasaction="ignore", lineterminator="\n")
  writer.writeheader()
  for table in tables:
    for rank, row in enumerate(table.rows, start=1):
      writer.writerow({**row.report, "given": " ".join(row.report["given"]), "rank": rank, "run": row.run})
  return out.getvalue()


_STYLES = {"text": _text, "markdown": _markdown, "csv": _csv}
