"""Style of all pictures: quiet axes, colours told apart by everyone, and files that appear whole.

Figures are built without pyplot, which keeps global state and may look for a display. The same figure gives the same
bytes: PNGs carry no date and no version.
"""

import os
from typing import Any

import matplotlib
from jaxtyping import UInt8
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from gdm.paths import write_whole

# Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, FAINT = "#333333", "#D9D9D9"

_NO_METADATA: dict[str, Any] = {"Software": None}  # matplotlib would write its version


def style_axes(axes: Axes) -> None:
  """Take away what says nothing: two spines, dark ticks; adds a faint grid."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(FAINT)
  axes.tick_params(which="both", labelcolor=INK, color=FAINT, labelsize=9)
  axes.grid(True, color=FAINT, linewidth=0.6, alpha=0.7)
  axes.set_axisbelow(True)


def save_figure(path: str | os.PathLike, figure: Figure, dpi: int = 144) -> None:
  """Write the figure as PNG, whole or not at all. Raise WorkdirError where it cannot be written."""
  with matplotlib.rc_context({"font.family": "DejaVu Sans"}):  # comes with matplotlib, so that every machine has it
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=dpi, metadata=_NO_METADATA))


def save_pixels(path: str | os.PathLike, pixels: UInt8[ndarray, "height width 3"]) -> None:
  """Write the pixels as PNG, one to one, whole or not at all. Raise WorkdirError where it cannot be written."""
  write_whole(path, lambda file: image.imsave(file, pixels, format="png", metadata=_NO_METADATA))
