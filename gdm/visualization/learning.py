"""Learning curves: error against the number of training examples, with intervals."""

import os
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from gdm.errors import SpecError
from gdm.visualization.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, save_figure, style_axes

_COLORS, _MARKERS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY), "osD^vP"


def save_learning_curves(path: str | os.PathLike, sizes: Sequence[int],
                         curves: Mapping[str, Sequence[tuple[float, float, float]]], *, title: str = "") -> None:
  """Draw a curve for each model.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    sizes: numbers of training examples.
    curves: by model, its error in [0, 1] at each size and both ends of the 95 % interval.
    title: a heading.

  Raises:
    SpecError: there is nothing to draw, or a curve has another number of points than there are sizes.
    WorkdirError: the file cannot be written.
  """
  if not curves or not sizes or any(len(points) != len(sizes) for points in curves.values()):
    raise SpecError(f"curves have {[len(points) for points in curves.values()]} points of {len(sizes)} sizes; each "
                    "needs one at every size.")
  figure = Figure(figsize=(6.0, 4.2), facecolor="white", layout="constrained")
  axes = figure.subplots()
  for index, (name, points) in enumerate(curves.items()):
    values, lows, highs = zip(*points, strict=True)
    errors = [[100.0 * (v - low) for v, low in zip(values, lows, strict=True)],
              [100.0 * (high - v) for v, high in zip(values, highs, strict=True)]]
    axes.errorbar(sizes, [100.0 * v for v in values], yerr=errors, label=name, color=_COLORS[index % len(_COLORS)],
                  marker=_MARKERS[index % len(_MARKERS)], markersize=5, linewidth=1.6, capsize=3)
  axes.set_xscale("log")
  axes.set_ylim(bottom=0.0)
  axes.set_xlabel("training examples", color=INK)
  axes.set_ylabel("labels that are wrong, per cent", color=INK)
  axes.legend(frameon=False, fontsize=9, labelcolor=INK)
  style_axes(axes)
  if title:
    figure.suptitle(title, color=INK, fontsize=12)
  save_figure(path, figure)
