"""Learning curves: error, or the return of a policy, against the number of training examples, with intervals."""

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


def save_return_curves(path: str | os.PathLike, curves: Mapping[str, Sequence[tuple[int, float, float]]],
                       lines: Mapping[str, float]) -> None:
  """Draw the return of learned policies against the number of actions that they learned from.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    curves: by model, (actions, mean return, half the 95 % interval) in order.
    lines: by name, returns that need no learning: the expert's and by chance.

  Raise SpecError where there is nothing to draw, WorkdirError where the file cannot be written.
  """
  if not any(curves.values()):
    raise SpecError("no returns to draw; at least one policy is needed.")
  figure = Figure(figsize=(6.0, 4.2), facecolor="white", layout="constrained")
  axes = figure.subplots()
  for index, (name, points) in enumerate(curves.items()):
    sizes, means, halves = zip(*points, strict=True)
    axes.errorbar(sizes, means, yerr=halves, label=name, color=_COLORS[index % len(_COLORS)],
                  marker=_MARKERS[index % len(_MARKERS)], markersize=5, linewidth=1.6, capsize=3)
  for style, (name, value) in zip(("--", ":", "-."), lines.items(), strict=False):
    axes.axhline(value, label=name, color=INK, linewidth=1.0, linestyle=style)
  axes.set_xscale("log")
  ticks = sorted({size for points in curves.values() for size, _, _ in points})
  axes.set_xticks(ticks, labels=[f"{size:,}" for size in ticks])
  axes.minorticks_off()
  axes.set_xlabel("actions of the expert to learn from", color=INK)
  axes.set_ylabel("return", color=INK)
  axes.legend(frameon=False, fontsize=9, labelcolor=INK)
  style_axes(axes)
  save_figure(path, figure)
