"""Validation curves of several runs in one picture."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gdm.visualization.curves import limit
from gdm.visualization.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, style_axes

_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
_STYLES = ("-", "--", ":", "-.")


def compared_curves(runs: Mapping[str, Iterable[Mapping[str, Any]]], metric: str, label: str,
                    sign: float = 1.0) -> Figure | None:
  """Draw one metric of each run against its step.

  Args:
    runs: by name, the rows of its metrics: "step" and scalars by name.
    metric: which of these, as "valid/nats"; runs without it are left out.
    label: of the axis.
    sign: what values are multiplied by, -1 for nats that are shown as negative log-likelihoods.

  Returns:
    The figure, or None where no run has two points.
  """
  curves = {name: points for name, rows in runs.items() if len(points := _points(rows, metric)) > 1}
  if not curves:
    return None
  figure = Figure(figsize=(7.0, 3.8), facecolor="white", layout="constrained")
  axes = figure.subplots()
  for index, (name, points) in enumerate(curves.items()):
    steps, values = zip(*points, strict=True)
    axes.plot(steps, sign * np.array(values), label=_literal(name), linewidth=1.6, color=_COLORS[index % len(_COLORS)],
              linestyle=_STYLES[index // len(_COLORS) % len(_STYLES)], marker="." if len(steps) <= 30 else None)
  limit(axes, sign * np.array([value for points in curves.values() for _, value in points]))
  axes.set_xlabel("step", color=INK)
  axes.set_ylabel(label, color=INK)
  axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=INK)
  style_axes(axes)
  return figure


def _points(rows: Iterable[Mapping[str, Any]], metric: str) -> Sequence[tuple[int, float]]:
  """Return steps and finite values in order."""
  found = {row["step"]: row[metric] for row in rows if isinstance(row.get(metric), int | float)
           and np.isfinite(row[metric])}
  return sorted(found.items())


def _literal(name: str) -> str:
  """Return a name as matplotlib shows it unchanged: `$` begins mathematics, a leading `_` hides a curve."""
  return (" " if name.startswith("_") else "") + name.replace("$", r"\$")
