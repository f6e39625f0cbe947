"""Likelihood reports of many runs, ranked in tables that never mix what cannot be compared.

A table is one data set, split, fingerprint of its examples and condition. Rows stand best first; a bound stands where
its value puts it and wears its relation to the truth (≤, ≥, ≈).

What seeds do to a number is seen below a table (`with_seed_means`): the mean over the seeds of a setting, with the
standard error over seeds, which is another thing than the interval over examples that each row has.
"""

import csv
import dataclasses
import io
import itertools
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gdm.errors import ConfigError, WorkdirError, nearest
from gdm.evaluation.likelihood import NORMAL_975
from gdm.evaluation.report import Report, bits_text, given_text, nats_text, read_coded, read_report
from gdm.evaluation.scores import Difference, Scores, mean_scores, paired_difference, read_scores, scores_path


@dataclasses.dataclass(frozen=True)
class Row:
  """One report, and what is known beside it.

  Attributes:
    run: name of the run that it came from.
    report: the report.
    folder: of the run.
    coded: bits/dim as coded, where it was coded.
    scores: of each example, where they were kept.
    difference: paired, from the model that was asked for.
  """

  run: str
  report: Report
  folder: Path
  coded: float | None = None
  scores: Scores | None = dataclasses.field(default=None, compare=False)
  difference: Difference | None = None


class Trial(NamedTuple):
  """What was run: everything that was set but the seed, in whatever form compares equal; and the seed."""

  setting: Hashable
  seed: int


@dataclasses.dataclass(frozen=True)
class SeedMean:
  """The runs of a table that differ in their seed alone.

  Attributes:
    rows: the runs.
    num_seeds: how many seeds they have; runs with the same seed count once, as their mean.
    nats_mean: mean over seeds of the nats per example.
    nats_stderr: its standard error over seeds, std(ddof=1) / sqrt(num_seeds); None for a single seed.
    bits_per_dim: mean over seeds; None for a density.
    bits_per_dim_stderr: its standard error over seeds.
    difference: of the examples' mean scores over runs, paired, from the model that was asked for.
  """

  rows: tuple[Row, ...]
  num_seeds: int
  nats_mean: float
  nats_stderr: float | None
  bits_per_dim: float | None
  bits_per_dim_stderr: float | None
  difference: Difference | None = None

  @property
  def run(self) -> str:
    """The names of the runs, with `*` for what differs."""
    names = [re.findall(r"[^/,=_ -]+|[/,=_ -]", row.run) for row in self.rows]
    if len(names) == 1:
      return self.rows[0].run
    start = _shared(names)
    end = _shared([name[len(start):][::-1] for name in names])[::-1]
    return "".join([*start, "*", *end])

  def mean(self, field: str) -> float:
    """The mean over the runs of a number of their reports."""
    return float(np.mean([row.report[field] for row in self.rows]))


def _shared(lists: Sequence[Sequence[str]]) -> list[str]:
  """What all lists begin with."""
  return [same[0] for same in itertools.takewhile(lambda items: len(set(items)) == 1, zip(*lists, strict=False))]


@dataclasses.dataclass(frozen=True)
class Table:
  """Comparable rows, best first, and where they were asked for the means over seeds and differences from a model.

  Attributes:
    rows: the runs.
    means: over seeds.
    against: the model, or the run, that all differ from.
  """

  rows: tuple[Row, ...]
  means: tuple[SeedMean, ...] = ()
  against: str = ""

  @property
  def first(self) -> Report:
    return self.rows[0].report

  @property
  def is_discrete(self) -> bool:
    return self.first["bits_per_dim"] is not None

  @property
  def has_coded(self) -> bool:
    """Whether some row was coded."""
    return any(row.coded is not None for row in self.rows)

  @property
  def title(self) -> str:
    report = self.first
    return " · ".join([report["dataset"], report["split"], *given_text(report), f"{report['num_examples']:,} examples",
                       f"data {report['data_fingerprint'][:16]}"])


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of the text and markdown tables: its heading, its cell for a row, and whether cells are numbers."""

  heading: str
  cell: Callable[[Any], str]
  is_number: bool = True


_MODEL = Column("model", lambda row: row.report["model"], is_number=False)
_BITS = Column("bits/dim ± 95 %", lambda row: bits_text(row.report))
_CODED = Column("coded bits/dim", lambda row: "" if row.coded is None else f"{row.coded:.4f}")
_NATS = Column("nats ± 95 %", lambda row: nats_text(row.report))
_REST = (
    Column("kind", lambda row: row.report["kind"].replace("_", " "), is_number=False),
    Column("params", lambda row: f"{row.report['num_params']:,}"),
    Column("train s", lambda row: f"{row.report['train_seconds']:,.1f}"),
    Column("draws", lambda row: str(row.report["num_draws"])),
    Column("weights", lambda row: row.report["parameters"], is_number=False),
    Column("run", lambda row: row.run, is_number=False),
)

_MEAN_MODEL = Column("model", lambda mean: mean.rows[0].report["model"], is_number=False)
_MEAN_OVER = Column("over", lambda mean: f"mean of {mean.num_seeds} seeds" if mean.num_seeds > 1 else "1 seed",
                    is_number=False)
_MEAN_BITS = Column("bits/dim ± std. error", lambda mean: _mean_text(mean, bits_text, mean.bits_per_dim_stderr))
_MEAN_NATS = Column("nats ± std. error", lambda mean: _mean_text(mean, nats_text, mean.nats_stderr))
_MEAN_REST = (
    Column("kind", lambda mean: mean.rows[0].report["kind"].replace("_", " "), is_number=False),
    Column("params", lambda mean: f"{mean.mean('num_params'):,.0f}"),
    Column("train s", lambda mean: f"{mean.mean('train_seconds'):,.1f}"),
    Column("runs", lambda mean: mean.run, is_number=False),
)


def _difference_column(table: Table) -> Column:
  unit = "bits/dim" if table.is_discrete else "nats"
  return Column(f"{unit} - {table.against} ± 95 %", lambda row: "" if row.difference is None else (
      f"{row.difference.mean:+z.4f} ± {NORMAL_975 * row.difference.stderr:.4f}"))


_SHEET: tuple[str, ...] = ("dataset", "split", "given", "data_fingerprint", "rank", "model", "bits_per_dim",
                           "bits_per_dim_stderr", "nats_mean", "nats_stderr", "kind", "num_params", "train_seconds",
                           "num_draws", "parameters", "step", "num_examples", "num_dims", "run")
# Standard errors over seeds have columns of their own: those of a run are over examples.
_MEAN_SHEET: tuple[str, ...] = ("num_seeds", "bits_per_dim_seeds_stderr", "nats_seeds_stderr")
_CODED_SHEET: tuple[str, ...] = ("coded_bits_per_dim",)
_AGAINST_SHEET: tuple[str, ...] = ("against", "difference", "difference_stderr")


def collect(workdirs: Iterable[str | os.PathLike], split: str | None = None) -> list[Table]:
  """Reads every `likelihood_*.json` at and below `workdirs` into tables, by data set and split.

  A `coded_<split>.json` beside it counts where it is of the same weights and data.

  Args:
    workdirs: folders of runs, or folders of such folders; what is found twice counts once.
    split: the only split to collect; None collects all.

  Raises:
    WorkdirError: a folder does not exist, or no report was found.
    DataError: a report is damaged, or that of what was coded.
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
    coded = read_coded(path.with_name(f"coded_{report['split']}.json"), report)
    scores = read_scores(scores_path(path), report)
    groups[key].append(Row(runs[path.parent], report, path.parent, coded, scores))
  # Within a table all rows have the same dimensions, so that the most nats are the fewest bits/dim.
  return [Table(tuple(sorted(groups[key], key=lambda row: (-row.report["nats_mean"], row.run))))
          for key in sorted(groups)]


def with_differences(tables: Iterable[Table], against: str) -> list[Table]:
  """The tables with each row's paired difference from a model, wherever scores of both were kept.

  Args:
    tables: the tables, with their means over seeds where those are to be compared too.
    against: name of a model, of whose runs the mean is taken example by example, or of one run.

  Raises ConfigError where no table has such a row with scores.
  """
  compared = [_with_differences(table, against) for table in tables]
  if not any(table.against for table in compared):
    known = {name for table in compared for row in table.rows if row.scores is not None
             for name in (row.report["model"], row.run)}
    raise ConfigError(f"against is {against!r}, of which there are no scores; "
                      + (nearest(against, known) if known else "run experiments.evaluate again to keep them."))
  return compared


def _with_differences(table: Table, against: str) -> Table:
  base = [row.scores for row in table.rows if against in (row.report["model"], row.run) and row.scores is not None]
  if not base or table.first["num_examples"] < 2:
    return table

  def difference(rows: Sequence[Row]) -> Difference | None:
    several = [row.scores for row in rows if row.scores is not None]
    if len(several) < len(rows):
      return None
    return paired_difference(mean_scores(several), mean_scores(base), table.is_discrete)

  rows = tuple(dataclasses.replace(row, difference=difference([row])) for row in table.rows)
  means = tuple(dataclasses.replace(mean, difference=difference(mean.rows)) for mean in table.means)
  return Table(rows, means, against)


def with_seed_means(tables: Iterable[Table], trials: Mapping[Path, Trial]) -> list[Table]:
  """The tables with the mean over seeds of each setting, in those where a setting has several seeds.

  A mean is over runs of one table (so of one data set, split, fingerprint and condition) whose reports are of one kind
  and were made in one way, and whose settings differ in the seed alone.

  Args:
    tables: the tables.
    trials: what was run in each `Row.folder`; a folder that is missing here stands alone.
  """
  return [dataclasses.replace(table, means=_seed_means(table, trials)) for table in tables]


def _seed_means(table: Table, trials: Mapping[Path, Trial]) -> tuple[SeedMean, ...]:
  groups = defaultdict(lambda: defaultdict(list))
  for row in table.rows:
    trial = trials.get(row.folder, Trial(row.folder, 0))
    report = row.report
    made = (report["model"], report["kind"], report["num_draws"], report["parameters"],
            json.dumps(report.get("evaluation"), sort_keys=True))
    groups[trial.setting, made][trial.seed].append(row)
  means = [_seed_mean(seeds) for seeds in groups.values()]
  if all(mean.num_seeds == 1 for mean in means):
    return ()
  return tuple(sorted(means, key=lambda mean: (-mean.nats_mean, mean.run)))


def _seed_mean(seeds: Mapping[int, Sequence[Row]]) -> SeedMean:
  """The mean over the runs of one setting, which are given by seed."""
  rows = tuple(sorted((row for same in seeds.values() for row in same), key=lambda row: row.run))
  is_discrete = rows[0].report["bits_per_dim"] is not None
  return SeedMean(rows, len(seeds), *_mean_and_stderr(seeds, "nats_mean"),
                  *(_mean_and_stderr(seeds, "bits_per_dim") if is_discrete else (None, None)))


def _mean_and_stderr(seeds: Mapping[int, Sequence[Row]], field: str) -> tuple[float, float | None]:
  values = np.array([np.mean([row.report[field] for row in same]) for same in seeds.values()])
  stderr = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
  return float(np.mean(values)), stderr


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


def _mean_text(mean: SeedMean, text: Callable[[Report], str], stderr: float | None) -> str:
  """A mean as its runs would be written, with its relation to the truth, and the standard error over seeds."""
  alone = text({"kind": mean.rows[0].report["kind"], "nats_mean": mean.nats_mean, "nats_stderr": None,
                "bits_per_dim": mean.bits_per_dim, "bits_per_dim_stderr": None})
  return alone if stderr is None else f"{alone} ± {stderr:.4f}"


def _columns(table: Table) -> tuple[Column, ...]:
  bits = [_BITS] * table.is_discrete + [_CODED] * table.has_coded
  return (_MODEL, *bits, _NATS, *[_difference_column(table)] * bool(table.against), *_REST)


def _mean_columns(table: Table) -> tuple[Column, ...]:
  return (_MEAN_MODEL, _MEAN_OVER, *([_MEAN_BITS] if table.is_discrete else []), _MEAN_NATS,
          *[_difference_column(table)] * bool(table.against), *_MEAN_REST)


def _text(tables: Sequence[Table], width: int | None) -> str:
  return "\n".join(_text_table(table, width) for table in tables)


def _text_table(table: Table, width: int | None) -> str:
  parts = [table.title, *_text_lines(_columns(table), table.rows, width)]
  if table.means:
    parts += ["", *_text_lines(_mean_columns(table), table.means, width)]
  return "\n".join(parts) + "\n"


def _text_lines(columns: Sequence[Column], rows: Sequence[Row] | Sequence[SeedMean], width: int | None) -> list[str]:
  cells = [[column.heading for column in columns], *([column.cell(row) for column in columns] for row in rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  if width is not None:  # the run is the last column; what tells runs apart is mostly at the end of their paths
    widths[-1] = min(widths[-1], max(len(columns[-1].heading), width - sum(widths[:-1]) - 2 * (len(widths) - 1)))
  right = [column.is_number for column in columns]
  heading, *lines = ["  ".join(map(_fit, line, widths, right)).rstrip() for line in cells]
  return [heading, "  ".join("─" * size for size in widths), *lines]


def _fit(text: str, size: int, to_the_right: bool) -> str:
  text = text if len(text) <= size else "…" + text[len(text) - size + 1:]
  return text.rjust(size) if to_the_right else text.ljust(size)


def _markdown(tables: Sequence[Table], width: int | None) -> str:
  del width  # markdown is laid out by its reader
  return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
  parts = [f"**{_escape(table.title)}**", "", *_markdown_lines(_columns(table), table.rows)]
  if table.means:
    parts += ["", *_markdown_lines(_mean_columns(table), table.means)]
  return "\n".join(parts) + "\n"


def _markdown_lines(columns: Sequence[Column], rows: Sequence[Row] | Sequence[SeedMean]) -> list[str]:
  lines = [[column.heading for column in columns], ["---:" if column.is_number else "---" for column in columns],
           *([_escape(column.cell(row)) for column in columns] for row in rows)]
  return [f"| {' | '.join(line)} |" for line in lines]


def _escape(text: str) -> str:
  return text.replace("|", "\\|")


def _csv(tables: Sequence[Table], width: int | None) -> str:
  """One sheet with full precision for programs; the leading columns name the table, and ranks start anew in each.

  Means over seeds follow the runs of their table; `num_seeds` is empty for a run.
  """
  del width
  out = io.StringIO()
  columns = (*_SHEET, *_CODED_SHEET * any(table.has_coded for table in tables),
             *_AGAINST_SHEET * any(table.against for table in tables),
             *_MEAN_SHEET * any(table.means for table in tables))
  writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
  writer.writeheader()
  for table in tables:
    for rank, row in enumerate(table.rows, start=1):
      writer.writerow({**row.report, "given": " ".join(row.report["given"]), "rank": rank, "run": row.run,
                       "coded_bits_per_dim": row.coded, **_difference_cells(table, row.difference)})
    for rank, mean in enumerate(table.means, start=1):
      writer.writerow({**_mean_cells(mean, rank), **_difference_cells(table, mean.difference)})
  return out.getvalue()


def _difference_cells(table: Table, difference: Difference | None) -> dict[str, Any]:
  if difference is None:
    return {}
  return {"against": table.against, "difference": difference.mean, "difference_stderr": difference.stderr}


def _mean_cells(mean: SeedMean, rank: int) -> dict[str, Any]:
  report = mean.rows[0].report
  shared = ("dataset", "split", "data_fingerprint", "model", "kind", "num_draws", "parameters", "num_examples",
            "num_dims")
  return {**{name: report[name] for name in shared}, "given": " ".join(report["given"]), "rank": rank,
          "nats_mean": mean.nats_mean, "nats_seeds_stderr": mean.nats_stderr, "bits_per_dim": mean.bits_per_dim,
          "bits_per_dim_seeds_stderr": mean.bits_per_dim_stderr, "num_params": mean.mean("num_params"),
          "train_seconds": mean.mean("train_seconds"), "num_seeds": mean.num_seeds, "run": mean.run}


_STYLES = {"text": _text, "markdown": _markdown, "csv": _csv}
