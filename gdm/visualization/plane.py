"""Axes for pictures of the plane: the window that the data sets, and equal scale around it."""

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes

from gdm.errors import SpecError
from gdm.visualization.figures import FAINT, INK

Points = Num[np.ndarray, "_ 2"]
Window = tuple[float, float, float, float]  # left, right, bottom, top

_MARGIN = 0.15  # of the data's width, left free around it


def window_around(points: Points) -> Window:
  """Return a square around all points, with a margin."""
  low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
  (x, y), half = ((low + high) / 2).tolist(), (0.5 + _MARGIN) * max(float((high - low).max()), 1e-6)
  return x - half, x + half, y - half, y + half


def require_points(**named: np.ndarray) -> None:
  """Raise SpecError naming what is no points of the plane, or none at all."""
  for name, points in named.items():
    if np.ndim(points) != 2 or np.shape(points)[1] != 2 or len(points) == 0:
      raise SpecError(f"{name} has shape {np.shape(points)}; a picture of the plane needs (number, 2), not empty.")


def frame(axes: Axes, title: str, window: Window) -> None:
  """Axes of equal scale on the window, quiet, with a title."""
  axes.set_title(title, color=INK, fontsize=10)
  axes.set(xlim=window[:2], ylim=window[2:], aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
  axes.tick_params(labelcolor=INK, color=FAINT, labelsize=8)
  axes.label_outer(remove_inner_ticks=True)
  axes.spines[:].set_color(FAINT)
