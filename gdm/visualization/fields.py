"""Score fields in the plane: where a model of noised data would move each point, beside the data and its samples."""

import os
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Float
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from gdm.errors import NotFiniteError, SpecError
from gdm.visualization.figures import BLUE, INK, ORANGE, save_figure
from gdm.visualization.plane import Points, frame, require_points, window_around

# Points [arrows, 2] (float32) and a time to the gradient of the log density there.
Score = Callable[[Float[np.ndarray, "points 2"], float], Float[np.ndarray | Array, "points 2"]]


_OUTERMOST = 0.005  # share of the points at each end of each axis that may lie outside their window
_SHORT = 0.2  # share of a panel's scores that are short


def save_score_fields(path: str | os.PathLike, data: Points, samples: Points, score: Score, times: Sequence[float], *,
                      noised: Callable[[float], Points] | None = None, resolution: int = 22,
                      max_points: int = 4000) -> None:
  """Draw data, samples, and at each time the score over the noised data (or the data, where it is not given).

  Arrows show where to; their colour tells how long the score is, in its unit, one over that of the data, and only where
  it is short for its panel so is the arrow. Each time has a window of its own, around all but its outermost points.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    data: examples; they set the window of the first two panels.
    samples: the model's samples.
    score: of points [resolution^2, 2] and a time, called once for each time.
    times: from more noise to less, or as the reader is to see them.
    noised: the data as they are at a time.
    resolution: arrows along each axis.
    max_points: points drawn in a panel.

  Raises:
    SpecError: data, samples or noised data are not points of the plane, or there is no time.
    NotFiniteError: a score is NaN or infinite.
    WorkdirError: the file cannot be written.
  """
  require_points(data=data, samples=samples)
  if len(times) == 0:
    raise SpecError("no times to draw a score field at; at least one is needed.")
  behind = {t: data if noised is None else noised(t) for t in times}
  for t, points in behind.items():
    require_points(**{f"noised data at time {t:g}": points})
  windows = {t: window_around(np.quantile(points, (_OUTERMOST, 1.0 - _OUTERMOST), axis=0))
             for t, points in behind.items()}
  grids = {t: _centers(window, resolution) for t, window in windows.items()}
  fields = {t: _checked(np.asarray(score(grid, t), np.float64), grid, t) for t, grid in grids.items()}
  lengths = np.concatenate([np.linalg.norm(field, axis=1) for field in fields.values()])
  norm = LogNorm(max(float(np.quantile(lengths, 0.02)), 1e-12), max(float(np.quantile(lengths, 0.98)), 2e-12))

  figure = Figure(figsize=(3.3 * (2 + len(times)) + 0.8, 3.8), facecolor="white", layout="compressed")
  panels = list(figure.subplots(1, 2 + len(times)))
  for axes, name, points, color in zip(panels, ("data", "samples"), (data, samples), (BLUE, ORANGE), strict=False):
    axes.scatter(*points[:max_points].T, s=2.5, color=color, alpha=0.5, linewidths=0)
    frame(axes, f"{name} ({min(len(points), max_points):,})", window_around(data))
  for axes, t in zip(panels[2:], times, strict=True):
    window = windows[t]
    axes.scatter(*behind[t][:max_points].T, s=2.5, color=BLUE, alpha=0.2, linewidths=0)
    arrows, sizes = _arrows(fields[t], (window[1] - window[0]) / resolution)
    drawn = axes.quiver(*grids[t].T, *arrows.T, sizes, norm=norm, cmap="plasma_r", angles="xy", scale_units="xy",
                        scale=1.0, width=0.006, headwidth=3.6, headlength=4.2, headaxislength=3.8, pivot="mid")
    frame(axes, f"score at t = {t:g}", window)
    axes.tick_params(labelleft=True, labelbottom=True)
    if t == times[-1]:
      bar = figure.colorbar(drawn, ax=panels, pad=0.01, extend="both")
      bar.set_label("length of the score", color=INK, fontsize=9)
      bar.ax.tick_params(which="both", labelcolor=INK, color=INK, labelsize=8)
      bar.outline.set_visible(False)
  save_figure(path, figure)


def _centers(window: tuple[float, float, float, float], resolution: int) -> Float[np.ndarray, "points 2"]:
  """Return the centres of cells that tile the window."""
  left, right, bottom, top = window
  centers = (np.arange(resolution) + 0.5) / resolution
  first, second = np.meshgrid(left + (right - left) * centers, bottom + (top - bottom) * centers)
  return np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)


def _arrows(field: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
  """Arrows no longer than their cell, longer where the score is, and the score's length."""
  sizes = np.linalg.norm(field, axis=1)
  short = max(float(np.quantile(sizes, _SHORT)), 1e-12)
  return field * (0.95 * spacing / np.hypot(sizes, short))[:, None], sizes


def _checked(field: np.ndarray, grid: np.ndarray, t: float) -> np.ndarray:
  if not np.isfinite(field).all():
    bad = grid[np.argmin(np.isfinite(field).all(axis=1))]
    raise NotFiniteError(f"the score at ({bad[0]:.4g}, {bad[1]:.4g}) and time {t:g} is NaN or infinite.")
  return field
