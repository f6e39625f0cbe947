"""Measures of samples as text within 80 columns, and as plain values for JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdm.evaluation.frechet import FrechetEstimate
from gdm.evaluation.histograms import Divergence
from gdm.evaluation.intervals import Interval, Measured
from gdm.evaluation.manifolds import ManifoldScores
from gdm.evaluation.memorization import CopyTest
from gdm.evaluation.modes import ModeScores

_MOST_SHOWN = 20  # labels whose shares are printed


def aligned(lines: Sequence[Sequence[str]]) -> str:
  """Return lines of cells as a table: a heading, a rule, and rows; the first column to the left, others to the right.
  """
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  written = ["  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(cells, widths, strict=True))).rstrip()
             for cells in lines]
  return "\n".join([written[0], "  ".join("─" * width for width in widths), *written[1:]])


def frechet_table(rows: Mapping[str, FrechetEstimate]) -> str:
  """Return distances extrapolated in n with half of their intervals, and those of the sets as they are."""
  return aligned([["Fréchet distance", "n = ∞, ± 95 %", "at these n", "n samples", "n data"],
                  *([name, *_with_two_digits(row.value, _half(row), row.plug_in), f"{row.num:,}", f"{row.num_data:,}"]
                    for name, row in rows.items())])


def manifold_table(rows: Mapping[str, ManifoldScores]) -> str:
  """Return precision, recall, density and coverage, each ± the longer side of its interval."""
  k = next(iter(rows.values())).k
  return aligned([[f"{k} neighbours, ± 95 %", "precision", "recall", "density", "coverage"],
                  *([name, *(_cell(each) for each in (row.precision, row.recall, row.density, row.coverage))]
                    for name, row in rows.items())])


def mode_table(rows: Mapping[str, ModeScores]) -> str:
  """Return modes found, the share of high quality, and the reverse KL."""
  known = next(iter(rows.values())).known
  return aligned([["modes, ± 95 %", f"of {known}", "high quality", "reverse KL", "KL as counted"],
                  *([name, _count(row.num_modes), _cell(row.high_quality), *_divergence(row.reverse_kl)]
                    for name, row in rows.items())])


def label_table(rows: Mapping[str, Mapping[str, Any]], num_labels: int) -> str:
  """Return how many labels were found, how often it was the asked one, and how far they are from the data's; where
  they are few their shares, too.

  Args:
    rows: by name, with "found", "asked", "kl" and "shares"; None of what there is not.
    num_labels: labels that there are.
  """
  first = aligned([["labels, ± 95 %", f"of {num_labels}", "the asked one", "KL from data's", "KL as counted"],
                   *([name, _count(row["found"]), "" if row["asked"] is None else _cell(row["asked"]),
                      *_divergence(row["kl"])] for name, row in rows.items())])
  if num_labels > _MOST_SHOWN:
    return first
  shares = [["share of labels, %", *map(str, range(num_labels))],
            *([name, *(f"{100 * share:.1f}" for share in row["shares"])] for name, row in rows.items())]
  return f"{first}\n\n{aligned(shares)}"


def part_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
  """Return how often each part of a label that is several came out as asked.

  Args:
    parts: by name of the samples, then of the part, its share with its interval.
  """
  names = list(next(iter(parts.values())))
  return aligned([["as asked, ± 95 %", *names], *([name, *(_cell(row[part]) for part in names)]
                                                   for name, row in parts.items())])


def memorization_table(rows: Mapping[str, CopyTest]) -> str:
  """Return how distances to the nearest training example compare with those of held-out data."""
  return aligned([["nearest training example", "z", "closer than held out", "median distance ratio"],
                  *([name, f"{row.z:+.2f}", _cell(row.closer),
                     "" if row.median_ratio is None else f"{row.median_ratio:.3f}"] for name, row in rows.items())])


def plain(value: Any) -> Any:
  """Return named tuples as dictionaries, intervals as lists, and NumPy's numbers as Python's, for JSON."""
  if isinstance(value, Interval):
    return list(value)
  if isinstance(value, tuple):
    names = getattr(value, "_fields", range(len(value)))
    return {name: plain(each) for name, each in zip(names, value, strict=True)}
  if isinstance(value, Mapping):
    return {name: plain(each) for name, each in value.items()}
  if isinstance(value, np.ndarray):
    return value.tolist()
  return value.item() if isinstance(value, np.generic) else value


def _half(value: Measured | Divergence | FrechetEstimate) -> float:
  """Return the longer side of an interval."""
  return max(value.ci95.high - value.value, value.value - value.ci95.low)


def _with_two_digits(value: float, half: float, other: float) -> tuple[str, str]:
  """Return `value ± half`, and another number, to two digits of the half width."""
  decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0.0 else 4
  return f"{value:z.{decimals}f} ± {half:.{decimals}f}", f"{other:z.{decimals}f}"


def _cell(value: Measured) -> str:
  return f"{value.value:.3f} ± {_half(value):.3f}"


def _count(value: Measured) -> str:
  half = _half(value)
  return f"{value.value:.0f}" + (f" ± {half:.1f}" if half else "")


def _divergence(value: Divergence | None) -> tuple[str, str]:
  return ("", "") if value is None else (f"{value.value:z.4f} ± {_half(value):.4f}", f"{value.plug_in:.4f}")
