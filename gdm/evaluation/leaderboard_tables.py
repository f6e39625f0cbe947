"""The leaderboard's tables as text, markdown, LaTeX or CSV."""

import csv
import dataclasses
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from gdm import checks
from gdm.evaluation.intervals import Interval, plus_minus
from gdm.evaluation.leaderboard import OverSeeds, Ranking, ScoredRow, SeedMean
from gdm.evaluation.report import Report, bits_text, nats_text, relation
from gdm.evaluation.scores import Difference

_NOTE_WIDTH = 120  # characters of a line of notes, where no terminal says how many


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of the tables but for CSV: its heading, its cell for a row, and whether cells are numbers."""

  heading: str
  cell: Callable[[Any], str]
  is_number: bool = True


_MODEL = Column("model", lambda row: row.report["model"], is_number=False)
_BITS = Column("bits/dim ± 95 %", lambda row: bits_text(row.report))
_CHARACTER_BITS = Column("bits/character ± 95 %", lambda row: bits_text(row.report))
_CHARACTER_NATS = Column("nats/character", lambda row: f"{row.report['text']['nats_per_character']:.4f}")
_WAY = Column("given of the text", lambda row: row.report["text"]["way"], is_number=False)
_CODED = Column("coded bits/dim", lambda row: "" if row.coded is None else f"{row.coded:.4f}")
_NATS = Column("nats ± 95 %", lambda row: nats_text(row.report))
_CELLS = Column("nats of cells ± 95 %", lambda row: nats_text(cells) if (cells := row.cells) else "")
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


def render(tables: Sequence[Ranking], style: str = "text", width: int | None = None) -> str:
  """Return the tables as `text`, `markdown`, `latex` (for the package booktabs) or `csv`.

  `width` is the number of characters that a line of text should fit in: the names of runs are shortened for it, and
  nothing else; None means as wide as needed. Raise ConfigError for an unknown style.
  """
  checks.one_of("format", style, _STYLES)
  return _STYLES[style](tables, width)


def _mean_text(mean: SeedMean, text: Callable[[Report], str]) -> str:
  """Return a mean as its runs would be written, with its relation to the truth, and its interval over seeds."""
  def ends(found: OverSeeds | None) -> Interval | None:
    return None if found is None or found.half is None else Interval.around(found.mean, found.half)

  bits = mean.bits_per_dim
  return text({"kind": mean.rows[0].report["kind"], "nats_mean": mean.nats.mean, "nats_ci95": ends(mean.nats),
               "bits_per_dim": bits and bits.mean, "bits_per_dim_ci95": ends(bits)})


def columns(table: Ranking) -> tuple[Column, ...]:
  if "text" in table.first:
    return _MODEL, _CHARACTER_BITS, _CHARACTER_NATS, _WAY, *_difference_columns(table), *_REST
  bits = [_BITS] * table.is_discrete + [_CODED] * table.has_coded
  return (_MODEL, *bits, _NATS, *[_CELLS] * table.has_cells, *_difference_columns(table), *_REST)


def mean_columns(table: Ranking) -> tuple[Column, ...]:
  return (_MEAN_MODEL, _MEAN_OVER, *([_MEAN_BITS] if table.is_discrete else []), _MEAN_NATS,
          *_difference_columns(table), *_MEAN_REST)


def _text(tables: Sequence[Ranking], width: int | None) -> str:
  return "\n".join(_text_table(table, width) for table in tables)


def _text_table(table: Ranking, width: int | None) -> str:
  parts = [table.title, *text_lines(columns(table), table.rows, width)]
  if table.means:
    parts += ["", *text_lines(mean_columns(table), table.means, width)]
  parts += [line for note in table.notes for line in textwrap.wrap(note, width or _NOTE_WIDTH)]
  return "\n".join(parts) + "\n"


def text_lines(columns: Sequence[Column], rows: Sequence[Any], width: int | None) -> list[str]:
  """Return the lines of a text table, whose last column is shortened to `width` characters in all."""
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
  parts = [f"**{escape(table.title)}**", "", *markdown_lines(columns(table), table.rows)]
  if table.means:
    parts += ["", *markdown_lines(mean_columns(table), table.means)]
  parts += [line for note in table.notes for line in ("", escape(note))]
  return "\n".join(parts) + "\n"


def markdown_lines(columns: Sequence[Column], rows: Sequence[Any]) -> list[str]:
  """Return the lines of a markdown table."""
  lines = [[column.heading for column in columns], ["---:" if column.is_number else "---" for column in columns],
           *([escape(column.cell(row)) for column in columns] for row in rows)]
  return [f"| {' | '.join(line)} |" for line in lines]


def escape(text: str) -> str:
  """Return a text for a cell of a markdown table."""
  return text.replace("|", "\\|")


def _latex(tables: Sequence[Ranking], width: int | None) -> str:
  del width  # laid out by TeX
  return "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Ranking) -> str:
  parts = latex_lines(table.title, columns(table), table.rows)
  if table.means:
    parts += ["", *latex_lines(f"{table.title}, means over seeds", mean_columns(table), table.means)]
  parts += [line for note in table.notes for line in ("", latex_escape(note))]
  return "\n".join(parts) + "\n"


def latex_lines(title: str, columns: Sequence[Column], rows: Sequence[Any]) -> list[str]:
  """Return the lines of a LaTeX table with rules of the package booktabs."""
  kinds = "".join("r" if column.is_number else "l" for column in columns)
  cells = [[column.heading for column in columns], *([column.cell(row) for column in columns] for row in rows)]
  heading, *lines = [f"{' & '.join(map(latex_escape, line))} \\\\" for line in cells]
  return [r"\begin{table}", r"\centering", f"\\caption{{{latex_escape(title)}}}", f"\\begin{{tabular}}{{{kinds}}}",
          r"\toprule", heading, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def latex_escape(text: str) -> str:
  """Return a text for LaTeX, its mathematical signs and minus signs in math mode."""
  text = "".join(_LATEX.get(character, character) for character in text)
  return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", text)


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


def _cells_cells(row: ScoredRow) -> dict[str, Any]:
  cells = row.cells
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


# What TeX takes for something else, and signs that it has in math mode only.
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
          ">": r"\textgreater{}", "|": r"\textbar{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "±": r"$\pm$",
          "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$", "²": r"$^2$", "∞": r"$\infty$", "·": r"$\cdot$",
          "…": r"\dots{}"}

_STYLES = {"text": _text, "markdown": _markdown, "latex": _latex, "csv": _csv}
