"""A map of latents in the plane: every example a point, coloured by its label."""

import os

import matplotlib
import numpy as np
from jaxtyping import Integer
from matplotlib.figure import Figure

from gdm.visualization.figures import BLUE, INK, save_figure
from gdm.visualization.plane import Points, frame, require_points, window_around

MAX_NAMED = 20  # labels that get an entry in the legend


def save_map(path: str | os.PathLike, points: Points, labels: Integer[np.ndarray, " _"] | None, title: str) -> None:
  """Write a map of latents.

  Args:
    path: the file.
    points: latents of examples.
    labels: of each; None where there are none.
    title: of the picture.

  Raises:
    SpecError: the latents are no points of the plane.
    WorkdirError: the file cannot be written.
  """
  require_points(points=points)
  figure = Figure(figsize=(6.0, 5.2), facecolor="white", layout="constrained")
  axes = figure.add_subplot()
  if labels is None:
    axes.scatter(*points.T, s=4, color=BLUE, linewidths=0, alpha=0.5)
  else:
    colours = matplotlib.colormaps["tab20" if labels.max() > 9 else "tab10"]
    for label in np.unique(labels):
      axes.scatter(*points[labels == label].T, s=4, color=colours(int(label) % colours.N), linewidths=0, alpha=0.6,
                   label=str(label))
    if len(np.unique(labels)) <= MAX_NAMED:
      legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=INK,
                           markerscale=3.0)
      for handle in legend.legend_handles:
        handle.set_alpha(1.0)  # type: ignore[union-attr]
  frame(axes, title, window_around(points))
  axes.set(xlabel="$z_1$", ylabel="$z_2$")
  save_figure(path, figure)
