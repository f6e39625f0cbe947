"""Densities in the plane: the data, a model's samples and the density it has learned, side by side."""

import os
from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdm.errors import NotFiniteError
from gdm.visualization.figures import BLUE, INK, ORANGE, save_figure
from gdm.visualization.plane import Points, Window, frame, require_points, window_around

Warp = Callable[[Float[np.ndarray, "points 2"]], Float[np.ndarray | Array, "points 2"]]
LogProb = Callable[[Float[np.ndarray, "points 2"]], Float[np.ndarray | Array, " points"]]

_LATENT_EDGE, _LATENT_LINES, _LINE_POINTS = 3.0, 13, 200  # of a latent grid: to three standard deviations
_CHUNK = 4096  # points of the grid per call, always as many, so that a jitted log_prob compiles once


def save_density(path: str | os.PathLike, data: Points, samples: Points, log_prob: LogProb, *,
                 true_log_prob: LogProb | None = None, from_latent: Warp | None = None, resolution: int = 192,
                 max_points: int = 4000) -> None:
  """Draw data, samples and exp(log_prob) on the data's own window.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    data: examples; they set the window.
    samples: the model's samples.
    log_prob: log density in nats of points [4096, 2] (float32), called as often as the grid needs.
    true_log_prob: the density that the data came from, where it is known; it gets a panel and the same colours.
    from_latent: of a model with a latent plane, where it puts points of it; a regular grid of [-3, 3]^2, warped so,
      gets a panel.
    resolution: points of the grid along each axis.
    max_points: points drawn of data and samples each.

  Raises:
    SpecError: data or samples are not points of the plane.
    NotFiniteError: a log density is NaN or +inf (-inf is an empty place).
    WorkdirError: the file cannot be written.
  """
  require_points(data=data, samples=samples)
  window = window_around(data)
  named = {"true density": true_log_prob, "learned density": log_prob}
  densities = {name: _on_grid(function, window, resolution, name) for name, function in named.items() if function}
  # Colours end at the true density's peak where that is known, so that a learned spike cannot darken the rest.
  brightest = float(next(iter(densities.values())).max()) or 1.0

  num_panels = 2 + len(densities) + (from_latent is not None)
  figure = Figure(figsize=(3.3 * num_panels + 0.8, 3.8), facecolor="white", layout="compressed")
  panels = list(np.ravel(figure.subplots(1, num_panels)))
  for axes, name, points, color in zip(panels, ("data", "samples"), (data, samples), (BLUE, ORANGE), strict=False):
    axes.scatter(*points[:max_points].T, s=2.5, color=color, alpha=0.5, linewidths=0)
    frame(axes, f"{name} ({min(len(points), max_points):,})", window)
  if from_latent is not None:
    _draw_warped_grid(panels[-1], from_latent)
    frame(panels[-1], "warped latent grid", window)
  heats = []
  for axes, (name, density) in zip(panels[2:2 + len(densities)], densities.items(), strict=True):
    heats.append(axes.imshow(density, origin="lower", extent=window, cmap="magma", vmin=0.0, vmax=brightest,
                             interpolation="bilinear"))
    mass = float(density.sum()) * ((window[1] - window[0]) / resolution)**2
    frame(axes, f"{name} (mass in view {mass:.3f})", window)
  bar = figure.colorbar(heats[0], ax=panels, pad=0.01,
                        extend="max" if densities["learned density"].max() > brightest else "neither")
  bar.set_label("density per unit area", color=INK, fontsize=9)
  bar.ax.tick_params(colors=INK, labelsize=8)
  bar.outline.set_visible(False)
  save_figure(path, figure)


def _on_grid(log_prob: LogProb, window: Window, resolution: int,
             name: str) -> np.ndarray:
  """exp(log_prob) [resolution, resolution] at the centres of cells that tile the window, rows upwards."""
  left, right, bottom, top = window
  centers = (np.arange(resolution) + 0.5) / resolution
  first, second = np.meshgrid(left + (right - left) * centers, bottom + (top - bottom) * centers)
  points = np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)
  chunks = [points[start:start + _CHUNK] for start in range(0, len(points), _CHUNK)]
  values = np.concatenate([np.asarray(log_prob(np.resize(chunk, (_CHUNK, 2))), np.float64)[:len(chunk)]
                           for chunk in chunks])
  if np.any(np.isnan(values) | (values == np.inf)):
    bad = points[np.argmax(np.isnan(values) | (values == np.inf))]
    raise NotFiniteError(f"the {name} at ({bad[0]:.4g}, {bad[1]:.4g}) has a logarithm that is NaN or +inf.")
  return np.exp(values).reshape(resolution, resolution)


def _draw_warped_grid(axes: Axes, from_latent: Warp) -> None:
  """Lines of constant latent coordinates, of the first in one colour and of the second in another."""
  along, places = (np.linspace(-_LATENT_EDGE, _LATENT_EDGE, num) for num in (_LINE_POINTS, _LATENT_LINES))
  lines = np.stack(np.meshgrid(places, along, indexing="ij"), axis=-1)  # [line, point, (constant, running)]
  grid = np.stack([lines, lines[..., ::-1]]).astype(np.float32)
  warped = np.asarray(from_latent(grid.reshape(-1, 2))).reshape(grid.shape)
  for family, color in zip(warped, (BLUE, ORANGE), strict=True):
    for line in family:
      axes.plot(*line.T, color=color, linewidth=0.7)
