"""Likelihood reports of many runs, ranked in tables that never mix what cannot be compared.

A table is one split by the fingerprint of its examples, whatever the data set is called, one condition, and one number
of dimensions that were scored. Rows wear their relation to the truth (≤, ≥, ≈). Exact numbers and lower bounds of the
log-likelihood come first, best first: none of them is better than its model. Below them, best first too, stand numbers
that may be, such as estimates, so that none wins by its error.

What seeds do to a number is seen below a table (`with_seed_means`): the mean over the seeds of a setting, with its
interval over seeds, which is another thing than the interval over examples that each row has. Differences of such means
have an interval over both.
"""

import csv
import dataclasses
import functools
import io
import itertools
import json
import os
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gdm import checks
from gdm.errors import ConfigError, WorkdirError, nearest
from gdm.evaluation.intervals import Interval, mean_half, plus_minus, standard_error
from gdm.evaluation.report import Report, bits_text, given_text, nats_text, read_coded, read_report, relation
from gdm.evaluation.scores import Difference, Scores, paired_difference, read_scores, scores_path
from gdm.likelihood import Kind

_NOTE_WIDTH = 120  # characters of a line of notes, where no terminal says how many


@dataclasses.dataclass(frozen=True)
class ScoredRow:
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


class SeededRun(NamedTuple):
  """Settings of a run but for the seed, in whatever form compares equal; and the seed."""

  setting: Hashable
  seed: int


@dataclasses.dataclass(frozen=True)
class SeedMean:
  """The runs of a table that differ in their seed alone; runs with the same seed count once, as their mean.

  Attributes:
    rows: the runs.
    seeds: the seed of each.
    difference: of the examples' mean scores over runs, paired, from the model that was asked for.
  """

  rows: tuple[ScoredRow, ...]
  seeds: tuple[int, ...]
  difference: Difference | None = None

  @property
  def num_seeds(self) -> int:
    return len(set(self.seeds))

  @functools.cached_property
  def nats(self) -> "OverSeeds":
    """Of the nats per example."""
    return OverSeeds.of(self.rows, self.seeds, "nats_mean")

  @functools.cached_property
  def bits_per_dim(self) -> "OverSeeds | None":
    """Of the bits/dim; None for a density."""
    return None if self.rows[0].report["bits_per_dim"] is None else OverSeeds.of(self.rows, self.seeds, "bits_per_dim")

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
    """Return the mean over the runs of a number of their reports."""
    return float(np.mean([row.report[field] for row in self.rows]))


class OverSeeds(NamedTuple):
  """The mean of a number over seeds, its standard error over them, and half its 95 % interval; None of one seed."""

  mean: float
  stderr: float | None
  half: float | None

  @classmethod
  def of(cls, rows: Sequence[ScoredRow], seeds: Sequence[int], field: str) -> "OverSeeds":
    by_seed = defaultdict(list)
    for row, seed in zip(rows, seeds, strict=True):
      by_seed[seed].append(row.report[field])
    values = np.array([np.mean(same) for same in by_seed.values()])
    return cls(float(np.mean(values)), standard_error(values), mean_half(values))


def _may_flatter(row: ScoredRow) -> bool:
  """Return whether a row's number may be better than its model, as one that is neither exact nor a lower bound may."""
  return row.report["kind"] not in (Kind.EXACT, Kind.LOWER_BOUND)


def _place(row: ScoredRow) -> tuple[bool, float, str]:
  """Return the key that rows of a table are sorted by."""
  return _may_flatter(row), -row.report["nats_mean"], row.run


def _shared(lists: Sequence[Sequence[str]]) -> list[str]:
  """Columns at the start of every list."""
  return [same[0] for same in itertools.takewhile(lambda items: len(set(items)) == 1, zip(*lists, strict=False))]


@dataclasses.dataclass(frozen=True)
class Ranking:
  """Comparable rows, best first, and where they were asked for the means over seeds and differences from a model.

  Attributes:
    rows: the runs.
    means: over seeds.
    against: the model, or the run, that all differ from.
  """

  rows: tuple[ScoredRow, ...]
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
  def has_cells(self) -> bool:
    """Whether some row has the probability of the cells of the record."""
    return any(_cells(row) for row in self.rows)

  @property
  def has_inexact_differences(self) -> bool:
    """Whether some difference is of a bound or an estimate."""
    return any(row.difference is not None and row.difference.kind is not Kind.EXACT
               for row in (*self.rows, *self.means))

  @property
  def notes(self) -> list[str]:
    """Return remarks on the numbers, a sentence each."""
    notes = []
    doubtful = [row.run for row in self.rows if row.report.get("is_interval_doubtful")]
    if doubtful:
      notes.append(f"Scores are skewed, so that intervals cover 95 % at most: {', '.join(doubtful)}.")
    below = [row.run for row in self.rows if _may_flatter(row)]
    if 0 < len(below) < len(self.rows):
      notes.append(f"Numbers that may be better than their models stand below the others: {', '.join(below)}.")
    shares = [row.report["recording"]["repeated_share"] for row in self.rows if row.report.get("recording")]
    if shares:
      notes.append(f"{100.0 * shares[0]:.3g} % of values repeat, so that densities have no upper bound; the cells that "
                   "they were recorded in have probabilities, which do.")
    if self.has_inexact_differences:
      notes.append("The difference of a bound or an estimate is itself no more than that: ≤, ≥ and ≈ say how the true "
                   "one stands to it, and its interval is about the numbers shown, not about the truth.")
    return notes

  @property
  def names(self) -> list[str]:
    """Names of the rows' data set, in order: the same data may lie in several files."""
    return sorted({row.report["dataset"] for row in self.rows})

  @property
  def title(self) -> str:
    report = self.first
    return " · ".join([", ".join(self.names), report["split"], *given_text(report),
                       f"{report['num_examples']:,} examples", f"data {report['data_fingerprint'][:16]}"])


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
_CELLS = Column("nats of cells ± 95 %", lambda row: nats_text(cells) if (cells := _cells(row)) else "")
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
_MEAN_BITS = Column("bits/dim ± 95 % over seeds", lambda mean: _mean_text(mean, bits_text))
_MEAN_NATS = Column("nats ± 95 % over seeds", lambda mean: _mean_text(mean, nats_text))
_MEAN_REST = (
    Column("kind", lambda mean: mean.rows[0].report["kind"].replace("_", " "), is_number=False),
    Column("params", lambda mean: f"{mean.mean('num_params'):,.0f}"),
    Column("train s", lambda mean: f"{mean.mean('train_seconds'):,.1f}"),
    Column("runs", lambda mean: mean.run, is_number=False),
)


def _difference_columns(table: Ranking) -> tuple[Column, ...]:
  """Differences from a model, and what they are where some are not exact."""
  def cell(row: ScoredRow | SeedMean) -> str:
    if row.difference is None:
      return ""
    mean, _, interval, kind = row.difference
    return relation(kind if table.is_discrete else -kind) + plus_minus(mean, interval, sign="+")

  def kind(row: ScoredRow | SeedMean) -> str:
    return "" if row.difference is None else row.difference.kind.replace("_", " ")

  if not table.against:
    return ()
  values = Column(f"{'bits/dim' if table.is_discrete else 'nats'} - {table.against} ± 95 %", cell)
  return (values, Column("difference is", kind, is_number=False)) if table.has_inexact_differences else (values,)


_SHEET: tuple[str, ...] = ("dataset", "split", "given", "data_fingerprint", "rank", "model", "bits_per_dim",
                           "bits_per_dim_stderr", "bits_per_dim_low", "bits_per_dim_high", "nats_mean", "nats_stderr",
                           "nats_low", "nats_high", "kind", "num_params", "train_seconds", "num_draws", "parameters",
                           "step", "num_examples", "num_dims", "run")  # low and high: ends of 95 % intervals
# What is over seeds has columns of its own: that of a run is over examples.
_MEAN_SHEET: tuple[str, ...] = ("num_seeds", "bits_per_dim_seeds_stderr", "bits_per_dim_seeds_half",
                                "nats_seeds_stderr", "nats_seeds_half")
_CODED_SHEET: tuple[str, ...] = ("coded_bits_per_dim",)
_CELLS_SHEET: tuple[str, ...] = ("cells_nats_mean", "cells_low", "cells_high", "cells_kind")
_AGAINST_SHEET: tuple[str, ...] = ("against", "difference", "difference_stderr", "difference_low", "difference_high",
                                   "difference_kind")


def collect(workdirs: Iterable[str | os.PathLike], split: str | None = None) -> list[Ranking]:
  """Read every `likelihood_*.json` at and below `workdirs` into tables, by data set and split.

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
    # A part of a split is not comparable with the whole, so the number of examples divides tables too; nor are scores
    # of other dimensions, as where one model took padding for data. Names are of files, and one file may have several.
    total_dims = round(report["num_dims"] * report["num_examples"])
    key = (report["split"], tuple(report["given"]), report["data_fingerprint"], report["num_examples"], total_dims,
           report["bits_per_dim"] is None)
    coded = read_coded(path.with_name(f"coded_{report['split']}.json"), report)
    scores = read_scores(scores_path(path), report)
    groups[key].append(ScoredRow(runs[path.parent], report, path.parent, coded, scores))
  # Within a table all rows have the same dimensions, so that the most nats are the fewest bits/dim.
  tables = {key: Ranking(tuple(sorted(groups[key], key=_place))) for key in sorted(groups)}
  return sorted(tables.values(), key=lambda table: table.names)  # which keeps the order of keys where names agree


def with_differences(tables: Iterable[Ranking], against: str) -> list[Ranking]:
  """Return the tables with each row's paired difference from a model, wherever scores of both were kept.

  Args:
    tables: the tables, with their means over seeds where those are to be compared too.
    against: name of a model, of whose runs the mean is taken example by example, or of one run.

  Raise ConfigError where no table has such a row with scores.
  """
  compared = [_with_differences(table, against) for table in tables]
  if not any(table.against for table in compared):
    known = {name for table in compared for row in table.rows if row.scores is not None
             for name in (row.report["model"], row.run)}
    raise ConfigError(f"against is {against!r}, of which there are no scores; "
                      + (nearest(against, known) if known else "run experiments.evaluate again to keep them."))
  return compared


def _with_differences(table: Ranking, against: str) -> Ranking:
  base = [row for row in table.rows if against in (row.report["model"], row.run) and row.scores is not None]
  if not base or table.first["num_examples"] < 2:
    return table

  def difference(rows: Sequence[ScoredRow]) -> Difference | None:
    several = [row.scores for row in rows if row.scores is not None]
    if len(several) < len(rows):
      return None
    return paired_difference(several, [row.scores for row in base if row.scores is not None], table.is_discrete)

  seeds = {row.run: seed for mean in table.means for row, seed in zip(mean.rows, mean.seeds, strict=True)}
  field = "bits_per_dim" if table.is_discrete else "nats_mean"

  def of_means(mean: SeedMean) -> Difference | None:
    """Over examples and over the seeds of both, which differ independently; a mean does not differ from itself."""
    found = difference(mean.rows)
    if found is None or {row.run for row in mean.rows} == {row.run for row in base}:
      return found
    both = (OverSeeds.of(mean.rows, mean.seeds, field),
            OverSeeds.of(base, [seeds.get(row.run, 0) for row in base], field))
    return found.widened(*(each.half for each in both if each.half is not None))

  rows = tuple(dataclasses.replace(row, difference=difference([row])) for row in table.rows)
  means = tuple(dataclasses.replace(mean, difference=of_means(mean)) for mean in table.means)
  return Ranking(rows, means, against)


def with_seed_means(tables: Iterable[Ranking], trials: Mapping[Path, SeededRun]) -> list[Ranking]:
  """Return the tables with the mean over seeds of each setting, in those where a setting has several seeds.

  A mean is over runs of one table (so of one data set, split, fingerprint and condition) whose reports are of one kind
  and were made in one way, and whose settings differ in the seed alone.

  Args:
    tables: the tables.
    trials: what was run in each `ScoredRow.folder`; a folder that is missing here stands alone.
  """
  return [dataclasses.replace(table, means=_seed_means(table, trials)) for table in tables]


def _seed_means(table: Ranking, trials: Mapping[Path, SeededRun]) -> tuple[SeedMean, ...]:
  groups = defaultdict(lambda: defaultdict(list))
  for row in table.rows:
    trial = trials.get(row.folder, SeededRun(row.folder, 0))
    report = row.report
    made = (report["model"], report["dataset"], report["kind"], report["num_draws"], report["parameters"],
            json.dumps(report.get("evaluation"), sort_keys=True))
    groups[trial.setting, made][trial.seed].append(row)
  means = [_seed_mean(seeds) for seeds in groups.values()]
  if all(mean.num_seeds == 1 for mean in means):
    return ()
  return tuple(sorted(means, key=lambda mean: (_may_flatter(mean.rows[0]), -mean.nats.mean, mean.run)))


def _seed_mean(seeds: Mapping[int, Sequence[ScoredRow]]) -> SeedMean:
  """Return the mean over the runs of one setting, which are given by seed."""
  runs = sorted(((row, seed) for seed, same in seeds.items() for row in same), key=lambda run: run[0].run)
  return SeedMean(tuple(row for row, _ in runs), tuple(seed for _, seed in runs))


def render(tables: Sequence[Ranking], style: str = "text", width: int | None = None) -> str:
  """Return the tables as `text`, `markdown` or `csv`.

  `width` is the number of characters that a line of text should fit in: the names of runs are shortened for it, and
  nothing else; None means as wide as needed. Raise ConfigError for an unknown style.
  """
  checks.one_of("format", style, _STYLES)
  return _STYLES[style](tables, width)


def _run_names(folders: Iterable[Path]) -> dict[Path, str]:
  """Return each folder by its path below what all have in common, or by its own name where there is only one."""
  folders = set(folders)
  common = Path(os.path.commonpath([folder.parent for folder in folders]))
  return {folder: str(folder.relative_to(common)) for folder in folders}


def _mean_text(mean: SeedMean, text: Callable[[Report], str]) -> str:
  """Return a mean as its runs would be written, with its relation to the truth, and its interval over seeds."""
  def ends(found: OverSeeds | None) -> Interval | None:
    return None if found is None or found.half is None else Interval.around(found.mean, found.half)

  bits = mean.bits_per_dim
  return text({"kind": mean.rows[0].report["kind"], "nats_mean": mean.nats.mean, "nats_ci95": ends(mean.nats),
               "bits_per_dim": bits and bits.mean, "bits_per_dim_ci95": ends(bits)})


def _columns(table: Ranking) -> tuple[Column, ...]:
  bits = [_BITS] * table.is_discrete + [_CODED] * table.has_coded
  return (_MODEL, *bits, _NATS, *[_CELLS] * table.has_cells, *_difference_columns(table), *_REST)


def _mean_columns(table: Ranking) -> tuple[Column, ...]:
  return (_MEAN_MODEL, _MEAN_OVER, *([_MEAN_BITS] if table.is_discrete else []), _MEAN_NATS,
          *_difference_columns(table), *_MEAN_REST)


def _text(tables: Sequence[Ranking], width: int | None) -> str:
  return "\n".join(_text_table(table, width) for table in tables)


def _text_table(table: Ranking, width: int | None) -> str:
  parts = [table.title, *_text_lines(_columns(table), table.rows, width)]
  if table.means:
    parts += ["", *_text_lines(_mean_columns(table), table.means, width)]
  parts += [line for note in table.notes for line in textwrap.wrap(note, width or _NOTE_WIDTH)]
  return "\n".join(parts) + "\n"


def _text_lines(columns: Sequence[Column], rows: Sequence[ScoredRow] | Sequence[SeedMean],
                width: int | None) -> list[str]:
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


def _markdown(tables: Sequence[Ranking], width: int | None) -> str:
  del width  # markdown is laid out by its reader
  return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Ranking) -> str:
  parts = [f"**{_escape(table.title)}**", "", *_markdown_lines(_columns(table), table.rows)]
  if table.means:
    parts += ["", *_markdown_lines(_mean_columns(table), table.means)]
  parts += [line for note in table.notes for line in ("", _escape(note))]
  return "\n".join(parts) + "\n"


def _markdown_lines(columns: Sequence[Column], rows: Sequence[ScoredRow] | Sequence[SeedMean]) -> list[str]:
  lines = [[column.heading for column in columns], ["---:" if column.is_number else "---" for column in columns],
           *([_escape(column.cell(row)) for column in columns] for row in rows)]
  return [f"| {' | '.join(line)} |" for line in lines]


def _escape(text: str) -> str:
  return text.replace("|", "\\|")


def _csv(tables: Sequence[Ranking], width: int | None) -> str:
  """One sheet with full precision for programs; the leading columns name the table, and ranks start anew in each.

  Means over seeds follow the runs of their table; `num_seeds` is empty for a run.
  """
  del width
  out = io.StringIO()
  columns = (*_SHEET, *_CODED_SHEET * any(table.has_coded for table in tables),
             *_CELLS_SHEET * any(table.has_cells for table in tables),
             *_AGAINST_SHEET * any(table.against for table in tables),
             *_MEAN_SHEET * any(table.means for table in tables))
  writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
  writer.writeheader()
  for table in tables:
    for rank, row in enumerate(table.rows, start=1):
      writer.writerow({**row.report, "given": " ".join(row.report["given"]), "rank": rank, "run": row.run,
                       **_ends("bits_per_dim", row.report["bits_per_dim_ci95"]),
                       **_ends("nats", row.report["nats_ci95"]),
                       "coded_bits_per_dim": row.coded, **_cells_cells(row),
                       **_difference_cells(table, row.difference)})
    for rank, mean in enumerate(table.means, start=1):
      writer.writerow({**_mean_cells(mean, rank), **_difference_cells(table, mean.difference)})
  return out.getvalue()


def _cells(row: ScoredRow) -> Report | None:
  """Return the numbers of the cells of the record, where a report has them."""
  return row.report.get("recording", {}).get("cells")


def _cells_cells(row: ScoredRow) -> dict[str, Any]:
  cells = _cells(row)
  return {} if not cells else {"cells_nats_mean": cells["nats_mean"], "cells_kind": cells["kind"],
                               **_ends("cells", cells["nats_ci95"])}


def _difference_cells(table: Ranking, difference: Difference | None) -> dict[str, Any]:
  if difference is None:
    return {}
  return {"against": table.against, "difference": difference.mean, "difference_stderr": difference.stderr,
          **_ends("difference", difference.ci95), "difference_kind": difference.kind}


def _ends(name: str, interval: Sequence[float] | None) -> dict[str, float]:
  return {} if interval is None else dict(zip((f"{name}_low", f"{name}_high"), interval, strict=True))


def _mean_cells(mean: SeedMean, rank: int) -> dict[str, Any]:
  report = mean.rows[0].report
  shared = ("dataset", "split", "data_fingerprint", "model", "kind", "num_draws", "parameters", "num_examples",
            "num_dims")
  values = {}
  for name, over in (("nats", mean.nats), ("bits_per_dim", mean.bits_per_dim)):
    if over is not None:
      values |= {f"{name}_mean" if name == "nats" else name: over.mean, f"{name}_seeds_stderr": over.stderr,
                 f"{name}_seeds_half": over.half}
  return {**{name: report[name] for name in shared}, "given": " ".join(report["given"]), "rank": rank, **values,
          "num_params": mean.mean("num_params"),
          "train_seconds": mean.mean("train_seconds"), "num_seeds": mean.num_seeds, "run": mean.run}


_STYLES = {"text": _text, "markdown": _markdown, "csv": _csv}
