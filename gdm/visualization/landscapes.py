"""Energy landscapes of the plane side by side: log densities in one scale of colours, each of which is a nat."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.figure import Figure

from gdm.errors import NotFiniteError, SpecError
from gdm.visualization.figures import INK, save_figure
from gdm.visualization.plane import Points, Window, frame, require_points, window_around

_DEPTH = 12  # nats below the highest of the first panels at which the colours end
_DPI = 110


@dataclasses.dataclass(frozen=True, eq=False)
class Landscape:
  """One panel.

  Attributes:
    title: of one or two lines.
    log_density: in nats, at the centres of cells that tile the window, rows upwards; -inf is an empty place.
    window: left, right, bottom, top.
  """

  title: str
  log_density: Float[np.ndarray, "rows columns"]
  window: Window


@dataclasses.dataclass(frozen=True, eq=False)
class LandscapeRow:
  """Panels that are to be compared, the first of which sets the colours; and points, which are to be in view."""

  label: str
  points: Points
  panels: Sequence[Landscape]


def save_landscapes(path: str | os.PathLike, rows: Sequence[LandscapeRow], title: str = "") -> None:
  """Draw each row's log densities, minus the energy less log Z, in one colour scale and one window.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    rows: as many panels each.
    title: a heading.

  Raises:
    SpecError: there is nothing to draw, or rows differ in length, or a row's points are none of the plane.
    NotFiniteError: a log density is NaN or +inf.
    WorkdirError: the file cannot be written.
  """
  lengths = {len(row.panels) for row in rows}
  if len(lengths) != 1 or 0 in lengths:
    raise SpecError(f"rows of landscapes have {sorted(lengths)} panels; they must all have as many, at least one.")
  for row in rows:
    require_points(**{f"points of {row.label}": row.points})
    for panel in row.panels:
      if np.any(np.isnan(panel.log_density) | (panel.log_density == np.inf)):
        raise NotFiniteError(f"the landscape {' '.join(panel.title.split())!r} of {row.label} has NaN or +inf.")
  top = max(float(row.panels[0].log_density.max()) for row in rows)
  top = float(np.ceil(top)) if np.isfinite(top) else 0.0
  bottom, [width] = top - _DEPTH, lengths
  is_above = any(panel.log_density.max() > top for row in rows for panel in row.panels)

  view, colours = window_around(np.concatenate([row.points for row in rows])), colormaps["magma"].resampled(_DEPTH)
  figure = Figure(figsize=(2.0 * width + 0.9, 2.4 * len(rows) + 0.2), facecolor="white", layout="compressed")
  grid = figure.subplots(len(rows), width, squeeze=False)
  for cells, row in zip(grid, rows, strict=True):
    for axes, panel in zip(cells, row.panels, strict=True):
      shown = np.maximum(panel.log_density, bottom - 1.0)  # below the colours: between pixels -inf would spread
      axes.imshow(shown, origin="lower", extent=panel.window, cmap=colours, vmin=bottom, vmax=top,
                  interpolation="bilinear", interpolation_stage="data")
      frame(axes, panel.title, view)
      axes.set(xlabel="", ylabel="")
    cells[0].set_ylabel(row.label, color=INK, fontsize=11)
  bar = figure.colorbar(grid[0, 0].images[0], ax=list(grid.ravel()), pad=0.01, extend="both" if is_above else "min",
                        aspect=15 * len(rows))
  bar.set_label("log density (nats)", color=INK, fontsize=9)
  bar.ax.tick_params(colors=INK, labelsize=8)
  bar.outline.set_visible(False)
  if title:
    figure.suptitle(title, color=INK, fontsize=12)
  save_figure(path, figure, dpi=_DPI)
