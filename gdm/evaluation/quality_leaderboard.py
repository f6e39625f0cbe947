"""Samples of many runs ranked by their distance from the data, with bits/dim beside them where a run was scored.

A table is one split, by the fingerprint of its examples, compared on the same features with as many samples: numbers on
other features, or of other n, are not comparable.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gdm import checks
from gdm.errors import DataError
from gdm.evaluation.intervals import plus_minus
from gdm.evaluation.leaderboard import run_names
from gdm.evaluation.leaderboard_tables import Column, escape, latex_lines, markdown_lines, text_lines
from gdm.evaluation.report import Report, bits_text, read_report

_FIELDS = ("model", "split", "num_data", "data_fingerprint", "features", "rows", "floor", "measures")
_KERNEL = "cubic"
FLOOR = "data"  # what stands in place of a model


class RankedSamples(NamedTuple):
  """Samples of a run, or in the last row of a table other data in their place.

  Attributes:
    run: name of the run; "" of data.
    model: name of the model.
    samples: the row of the report: its name, how many, and kernel distances.
    measures: measure -> its numbers of these samples.
    likelihood: the run's likelihood report of the same examples, where there is one.
  """

  run: str
  model: str
  samples: dict[str, Any]
  measures: dict[str, Any]
  likelihood: Report | None = None

  @property
  def frechet(self) -> dict[str, Any] | None:
    """The Frechet distance, where it was taken."""
    return self.measures.get("frechet")


class QualityRanking(NamedTuple):
  """Comparable rows, the nearest to the data first; what data score is the last."""

  about: dict[str, Any]
  rows: tuple[RankedSamples, ...]

  @property
  def title(self) -> str:
    about = self.about
    return " · ".join([about["dataset"], about["split"], "quality of samples", f"features {about['features']['name']}",
                       f"{about['num_data']:,} examples", f"data {about['data_fingerprint'][:16]}"])


def _interval(number: dict[str, Any] | None, digits: int) -> str:
  return "" if number is None else plus_minus(number["value"], number["ci95"], digits)


def _modes(found: dict[str, Any] | None) -> str:
  return "" if found is None else f"{found['num_modes']['value']:.0f} of {found['known']}"


def _of(measure: str, name: str, digits: int = 3):
  return lambda row: _interval((row.measures.get(measure) or {}).get(name), digits)


_COLUMNS = (
    Column("model", lambda row: row.model, is_number=False),
    Column("Fréchet, n = ∞, ± 95 %", lambda row: _interval(row.frechet, 2)),
    Column("MMD² x 1000 ± 95 %", lambda row: _interval(_times_1000(row.samples["squared"][_KERNEL]), 2)),
    Column("precision", _of("manifolds", "precision")),
    Column("recall", _of("manifolds", "recall")),
    Column("density", _of("manifolds", "density")),
    Column("coverage", _of("manifolds", "coverage")),
    Column("modes", lambda row: _modes(row.measures.get("modes"))),
    Column("high quality", _of("modes", "high_quality")),
    Column("reverse KL", _of("modes", "reverse_kl", 4)),
    Column("asked label", _of("labels", "asked")),
    Column("bits/dim ± 95 %", lambda row: "" if row.likelihood is None or row.likelihood["bits_per_dim"] is None else
           bits_text(row.likelihood)),
    Column("samples", lambda row: f"{row.samples['num']:,}"),
    Column("by", lambda row: row.samples["name"], is_number=False),
    Column("run", lambda row: row.run, is_number=False),
)


def collect(workdirs: Iterable[str | os.PathLike], split: str | None = None) -> list[QualityRanking]:
  """Read every `quality_*.json` at and below `workdirs`, with the likelihood reports beside them.

  Args:
    workdirs: folders of runs, or folders of such folders.
    split: the only split to collect; None collects all.

  Raise DataError where a report is damaged.
  """
  paths = sorted({path.resolve() for workdir in map(Path, workdirs) for path in workdir.rglob("quality_*.json")})
  reports = [(path, report) for path in paths if split in (None, (report := _read(path))["split"])]
  if not reports:
    return []
  runs, groups, abouts = run_names(path.parent for path, _ in reports), defaultdict(list), {}
  for path, report in reports:
    features = report["features"]
    key = (report["split"], report["data_fingerprint"], report["num_data"], report["rows"][0]["num"], features["name"],
           features.get("step"), features.get("train_fingerprint"))
    abouts[key] = report
    groups[key] += [RankedSamples(runs[path.parent], report["model"], row, _measures(report, row["name"]),
                               _likelihood(path, report)) for row in report["rows"]]
  tables = []
  for key in sorted(groups, key=str):
    about = abouts[key]
    floor = RankedSamples("", FLOOR, about["floor"], _measures(about, about["floor"]["name"]))
    has_frechet = all(row.frechet for row in groups[key])
    ranked = sorted(groups[key], key=lambda row, has=has_frechet: (
        row.frechet["value"] if has and row.frechet else row.samples["squared"][_KERNEL]["value"], row.run))
    tables.append(QualityRanking(about, (*ranked, floor)))
  return tables


def render(tables: Sequence[QualityRanking], style: str = "text", width: int | None = None) -> str:
  """Return the tables as `text`, `markdown` or `latex`; see `gdm.evaluation.leaderboard_tables.render`."""
  checks.one_of("format", style, ("text", "markdown", "latex"))
  parts = []
  for table in tables:
    shown = columns(table)
    parts.append({"text": lambda table, shown: [table.title, *text_lines(shown, table.rows, width)],
                  "markdown": lambda table, shown: [f"**{escape(table.title)}**", "",
                                                    *markdown_lines(shown, table.rows)],
                  "latex": lambda table, shown: latex_lines(table.title, shown, table.rows)}[style](table, shown))
  return "\n".join("\n".join(lines) + "\n" for lines in parts)


def columns(table: QualityRanking) -> list[Column]:
  """Return the columns in which the table has something."""
  return [column for column in _COLUMNS if any(column.cell(row) for row in table.rows)]


def _read(path: Path) -> dict[str, Any]:
  try:
    report = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise DataError(f"cannot read {path} ({error}); run experiments.quality again to replace it.") from error
  missing = [name for name in _FIELDS if not isinstance(report, dict) or name not in report]
  if missing or not report["rows"]:
    raise DataError(f"{path} is no report of quality: {(missing or ['rows'])[0]} is missing; run experiments.quality "
                    "again to replace it.")
  return report


def _measures(report: dict[str, Any], name: str) -> dict[str, Any]:
  return {measure: rows[name] for measure, found in report["measures"].items()
          if name in (rows := found.get("rows", {}))}


def _likelihood(path: Path, report: dict[str, Any]) -> Report | None:
  """Return the likelihood report of the same examples beside it; None where there is none."""
  beside = path.with_name(f"likelihood_{report['split']}.json")
  found = read_report(beside) if beside.exists() else None
  return found if found and found["data_fingerprint"] == report["data_fingerprint"] else None


def _times_1000(number: dict[str, Any]) -> dict[str, Any]:
  return {"value": 1000.0 * number["value"], "ci95": [1000.0 * end for end in number["ci95"]]}
