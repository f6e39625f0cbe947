"""Plots of distance from the data against network evaluations, a curve per sampler."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gdm.errors import SpecError
from gdm.visualization.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, save_figure, style_axes

_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
_MARKERS = "osD^vP"


class NFEPoint(NamedTuple):
  """Network evaluations of each sample, and the squared distance of such samples with half its 95 % interval."""

  nfe: float
  value: float
  half: float


Curves = Mapping[str, Sequence[NFEPoint]]  # by sampler


def save_nfe(path: str | os.PathLike, panels: Mapping[str, Curves], floors: Mapping[str, tuple[float, float]], *,
             title: str = "") -> None:
  """Draw a panel for each kernel.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    panels: by the kernel's name, the points of each sampler; the same samplers in each.
    floors: by the kernel's name, the squared distance of other data with half its 95 % interval.
    title: a heading.

  Raises:
    SpecError: there is nothing to draw.
    WorkdirError: the file cannot be written.
  """
  if not panels or not all(points for curves in panels.values() for points in curves.values()):
    raise SpecError("no points to draw; each sampler needs at least one.")
  figure = Figure(figsize=(5.2 * len(panels), 4.0), facecolor="white", layout="constrained")
  for axes, (name, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
    _draw(axes, curves, *floors[name])
    axes.set_title(f"{name} kernel", color=INK, fontsize=10)
  if title:
    figure.suptitle(title, color=INK, fontsize=12)
  save_figure(path, figure)


def _draw(axes: Axes, curves: Curves, floor: float, floor_half: float) -> None:
  axes.axhspan(1e3 * (floor - floor_half), 1e3 * (floor + floor_half), color=INK, alpha=0.1, linewidth=0)
  axes.axhline(1e3 * floor, color=INK, linewidth=1.2, linestyle="--", label="other data")
  for index, (sampler, points) in enumerate(curves.items()):
    nfe, values, errors = zip(*sorted(points), strict=True)
    axes.errorbar(nfe, [1e3 * value for value in values], yerr=[1e3 * error for error in errors], label=sampler,
                  color=_COLORS[index % len(_COLORS)], marker=_MARKERS[index % len(_MARKERS)], markersize=5,
                  linewidth=1.6, elinewidth=1.0, capsize=2.5)
  everything = [point for points in curves.values() for point in points]
  highest, usual = max(point.value for point in everything), max(floor_half, 2.0 * abs(floor))
  if highest > 20.0 * usual > 0.0:  # a few steps may be far worse than many: a logarithm, but about 0
    axes.set_yscale("symlog", linthresh=1e3 * usual)
  axes.set_xscale("log")
  style_axes(axes)
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
  nfes = [point.nfe for point in everything]
  axes.xaxis.set_minor_formatter(
      FuncFormatter(lambda value, position: f"{value:g}" if f"{value:e}"[0] in "25" else "")
      if max(nfes) < 1e3 * min(nfes) else NullFormatter())
  axes.set_xlabel("network evaluations per sample", color=INK)
  axes.set_ylabel("squared distance (MMD² x 1000)", color=INK)
  axes.legend(frameon=False, fontsize=9, labelcolor=INK)
