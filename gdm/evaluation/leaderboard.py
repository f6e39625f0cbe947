"""Likelihood reports of many runs, ranked in tables that never mix what cannot be compared.

A table is one split by the fingerprint of its examples, whatever the data set is called, one condition, and one number
of dimensions that were scored. Rows wear their relation to the truth (≤, ≥, ≈). Exact numbers and lower bounds of the
log-likelihood come first, best first: none of them is better than its model. Below them, best first too, stand numbers
that may be, such as estimates, so that none wins by its error.

What seeds do to a number is seen below a table (`with_seed_means`): the mean over the seeds of a setting, with its
interval over seeds, which is another thing than the interval over examples that each row has. Differences of such means
have an interval over both.
"""

import dataclasses
import functools
import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gdm.errors import ConfigError, WorkdirError, nearest
from gdm.evaluation.intervals import mean_half, standard_error
from gdm.evaluation.report import Report, given_text, read_coded, read_report
from gdm.evaluation.scores import Difference, Scores, paired_difference, read_scores, scores_path
from gdm.likelihood import Kind


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

  @property
  def cells(self) -> Report | None:
    """The numbers of the cells of the record, where the report has them."""
    return self.report.get("recording", {}).get("cells")


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
    return any(row.cells for row in self.rows)

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


def collect(workdirs: Iterable[str | os.PathLike], split: str | None = None, *,
            may_be_none: bool = False) -> list[Ranking]:
  """Read every `likelihood_*.json` at and below `workdirs` into tables, by data set and split.

  A `coded_<split>.json` beside it counts where it is of the same weights and data.

  Args:
    workdirs: folders of runs, or folders of such folders; what is found twice counts once.
    split: the only split to collect; None collects all.
    may_be_none: return no table where there is no report.

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
  if not reports and may_be_none:
    return []
  if not reports:
    where = ", ".join(map(str, workdirs))
    raise WorkdirError(f"no likelihood_{split or '*'}.json in {where}; run experiments.evaluate on the workdirs first.")

  runs = run_names([path.parent for path, _ in reports])
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
    if against in known:
      raise ConfigError(f"against is {against!r}, but a single example was scored, whose difference has no interval; "
                        "leave it out.")
    raise ConfigError(f"against is {against!r}, of which there are no scores; "
                      + (nearest(against, known) if known else "run experiments.evaluate again to keep them."))
  return compared


def with_differences_from_best(table: Ranking) -> Ranking:
  """Return the table with each row's paired difference from the best row that has scores; as it is where there is
  none, or a single example."""
  best = next((row for row in table.rows if row.scores is not None), None)
  if best is None or best.scores is None or table.first["num_examples"] < 2:
    return table
  base = best.scores
  rows = tuple(row if row.scores is None else dataclasses.replace(
      row, difference=paired_difference([row.scores], [base], table.is_discrete)) for row in table.rows)
  return dataclasses.replace(table, rows=rows, against=best.run)


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


def run_names(folders: Iterable[Path]) -> dict[Path, str]:
  """Return each folder by its path below what all have in common, or by its own name where there is only one."""
  folders = set(folders)
  common = Path(os.path.commonpath([folder.parent for folder in folders]))
  return {folder: str(folder.relative_to(common)) for folder in folders}
