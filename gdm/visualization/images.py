"""Grids of images, pixel by pixel: every value of the data is a crisp square of one colour."""

import math
import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import Num, UInt8
from matplotlib.figure import Figure

from gdm.errors import DataError, SpecError
from gdm.visualization.figures import INK, save_figure, save_pixels

Images = Num[np.ndarray, "_ _ _ _"]  # number, height, width, channels

_SEPARATOR = (72, 99, 128)  # a blue-grey that is no grey value, so that cells end visibly on black and on white
_LINE = 2  # width of the separator in pixels
_CELL = 56  # default height of a small image on the screen, in pixels
_DPI = 100


def save_grid(path: str | os.PathLike, images: Images, *, levels: int | None, columns: int | None = None,
              scale: int | None = None) -> None:
  """Write images as one picture, row by row.

  Args:
    path: the file.
    images: integers in [0, levels), or with `levels` None real numbers in [0, 1] (shown clipped); 1 or 3 channels.
    levels: number of values of a pixel, or None.
    columns: images in a row; about as many as there are rows by default.
    scale: screen pixels per pixel; by default small images are magnified to about 56.

  Raises:
    SpecError: not images of 1 or 3 channels, or none at all.
    DataError: values outside the levels, NaN or infinity.
    WorkdirError: the file cannot be written.
  """
  save_pixels(path, grid_pixels(images, levels, columns, scale))


def save_side_by_side(path: str | os.PathLike, panels: Mapping[str, Images], *,
                      levels: int | None, columns: int | None = None, scale: int | None = None) -> None:
  """Write grids next to each other under their titles, as `{"data": ..., "samples": ...}`.

  Arguments after `panels` and errors as in `save_grid`.
  """
  if not panels:
    raise SpecError("no panels to draw; at least one is needed.")
  grids = {title: grid_pixels(images, levels, columns, scale) for title, images in panels.items()}
  margin, title_height = 16, 34
  height = title_height + max(grid.shape[0] for grid in grids.values()) + margin
  widths = [max(grid.shape[1], 9 * len(title)) for title, grid in grids.items()]  # a letter is at most 9 pixels wide
  width = margin + sum(width + margin for width in widths)
  figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
  left = margin
  for (title, grid), panel_width in zip(grids.items(), widths, strict=True):
    # figimage copies pixel to pixel, from the bottom left; an axes would resample.
    figure.figimage(grid, xo=left, yo=height - title_height - grid.shape[0])
    figure.text(left / width, 1 - title_height / 2 / height, title, va="center", color=INK, fontsize=11)
    left += panel_width + margin
  save_figure(path, figure, dpi=_DPI)


def grid_pixels(images: Images, levels: int | None, columns: int | None = None,
                scale: int | None = None) -> UInt8[np.ndarray, "_ _ 3"]:
  """Return the pixels [height, width, 3] of a grid; arguments and errors as in `save_grid`."""
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
    raise SpecError(f"images have shape {images.shape}; it must be (number, height, width, channels) with at least one "
                    "image and 1 or 3 channels.")
  num, height, width, _ = images.shape
  columns = columns or math.ceil(math.sqrt(num))
  scale = scale or max(1, math.ceil(_CELL / height))
  rows = math.ceil(num / columns)
  columns = min(columns, num)
  cells = _to_bytes(images, levels).repeat(scale, axis=1).repeat(scale, axis=2)
  cells = np.broadcast_to(cells, (*cells.shape[:3], 3))
  down, across = height * scale + _LINE, width * scale + _LINE
  canvas = np.full((rows * down + _LINE, columns * across + _LINE, 3), 255, np.uint8)
  for index, cell in enumerate(cells):
    top, left = index // columns * down, index % columns * across
    canvas[top:top + down + _LINE, left:left + across + _LINE] = _SEPARATOR
    canvas[top + _LINE:top + down, left + _LINE:left + across] = cell
  return canvas


def _to_bytes(images: np.ndarray, levels: int | None) -> UInt8[np.ndarray, "..."]:
  if not np.all(np.isfinite(images)):
    raise DataError("images hold NaN or infinity; there is no colour for them.")
  if levels is None:
    return np.round(255.0 * np.clip(images, 0.0, 1.0)).astype(np.uint8)
  low, high = images.min(), images.max()
  if low < 0 or high >= levels or not np.issubdtype(images.dtype, np.integer):
    raise DataError(f"images are {images.dtype} from {low} to {high}; with levels {levels} they must be integers in "
                    f"[0, {levels}).")
  return np.round(images * (255.0 / (levels - 1))).astype(np.uint8)
