"""Style of all pictures: quiet axes, colours told apart by everyone, and files that appear whole.

Figures are built without pyplot, which keeps global state and may look for a display. A path's ending chooses the kind
of file: PNG, PDF or SVG. The same figure gives the same bytes: no file carries a date or a version.
"""

import io
import os
from pathlib import Path
from typing import Any

import matplotlib
from jaxtyping import UInt8
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from gdm.errors import SpecError
from gdm.paths import write_whole

# Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, FAINT = "#333333", "#D9D9D9"

# By the ending of a file, what keeps matplotlib from writing its version and the date.
_METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None},
                                        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
                                        "svg": {"Creator": None, "Date": None}}
_STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine has it
                           "svg.hashsalt": "gdm"}  # or SVG's names would be random
_PIXELS_DPI = 100


def style_axes(axes: Axes) -> None:
  """Take away what says nothing: two spines, dark ticks; adds a faint grid."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(FAINT)
  axes.tick_params(which="both", labelcolor=INK, color=FAINT, labelsize=9)
  axes.grid(True, color=FAINT, linewidth=0.6, alpha=0.7)
  axes.set_axisbelow(True)


def save_figure(path: str | os.PathLike, figure: Figure, dpi: int = 144) -> None:
  """Write the figure as PNG, PDF or SVG by the path's ending, whole or not at all.

  Raises:
    SpecError: the path has another ending.
    WorkdirError: it cannot be written.
  """
  contents = figure_bytes(figure, Path(path).suffix, dpi)
  write_whole(path, lambda file: file.write(contents))


def figure_bytes(figure: Figure, suffix: str, dpi: int = 144) -> bytes:
  """Return the file of a figure.

  Args:
    figure: the figure.
    suffix: ".png", ".pdf" or ".svg".
    dpi: pixels per inch, of PNG.

  Raise SpecError for another suffix.
  """
  kind = suffix.removeprefix(".").lower()
  if kind not in _METADATA:
    raise SpecError(f"a picture's ending is {suffix!r}; it must be .png, .pdf or .svg.")
  file = io.BytesIO()
  with matplotlib.rc_context(_STYLE):
    figure.savefig(file, format=kind, dpi=dpi, metadata=_METADATA[kind])
  return file.getvalue()


def save_pixels(path: str | os.PathLike, pixels: UInt8[ndarray, "height width 3"]) -> None:
  """Write the pixels one to one, as PNG, PDF or SVG by the path's ending, whole or not at all; errors as in
  `save_figure`."""
  if Path(path).suffix.lower() == ".png":
    write_whole(path, lambda file: image.imsave(file, pixels, format="png", metadata=_METADATA["png"]))
    return
  height, width, _ = pixels.shape
  figure = Figure(figsize=(width / _PIXELS_DPI, height / _PIXELS_DPI), dpi=_PIXELS_DPI)
  figure.figimage(pixels)
  save_figure(path, figure, _PIXELS_DPI)
