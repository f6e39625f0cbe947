"""The way from noise to samples: as a strip of pictures, and as one that moves.

Frames come in the data's own scale, for data of levels as real numbers that need not lie between them.
"""

import io
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from gdm.errors import SpecError
from gdm.paths import write_whole
from gdm.visualization.figures import ORANGE, save_figure, save_pixels
from gdm.visualization.images import grid_pixels
from gdm.visualization.plane import frame, require_points, window_around

ImageFrames = Float[np.ndarray, "frames number height width channels"]
PointFrames = Float[np.ndarray, "frames number 2"]
Picture = UInt8[np.ndarray, "_ _ 3"]

_FRAME_MILLISECONDS, _LAST_MILLISECONDS = 120, 2500
_MAX_POINTS = 4000
_DPI = 100


def save_strip(path: str | os.PathLike, frames: ImageFrames, *, levels: int | None, scale: int | None = None) -> None:
  """Draw a row for each sample and a column for each frame, from noise at the left to the sample at the right.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    frames: of images in [0, levels - 1], or with `levels` None in [0, 1]; noise beyond that is shown clipped.
    levels: number of values of a pixel of the data, or None.
    scale: screen pixels per pixel; by default small images are magnified to about 56.

  Raises:
    SpecError: there is no frame, or they are no images of 1 or 3 channels.
    DataError: frames hold NaN or infinity.
    WorkdirError: the file cannot be written.
  """
  _require_frames(frames)
  rows = np.swapaxes(_shares(frames, levels), 0, 1)
  save_pixels(path, grid_pixels(rows.reshape(-1, *rows.shape[2:]), None, len(frames), scale))


def image_pictures(frames: ImageFrames, *, levels: int | None, columns: int | None = None,
                   scale: int | None = None) -> list[Picture]:
  """Return each frame as a grid of its samples, for `save_gif`; arguments and errors as in `save_strip` and
  `save_grid`."""
  _require_frames(frames)
  return [grid_pixels(images, None, columns, scale) for images in _shares(frames, levels)]


def save_point_strip(path: str | os.PathLike, frames: PointFrames) -> None:
  """Draw points of the plane, a panel for each frame, all on the window of the last.

  Raises:
    SpecError: there is no frame, or they are no points of the plane.
    WorkdirError: the file cannot be written.
  """
  _require_frames(frames)
  figure = Figure(figsize=(2.0 * len(frames) + 0.6, 2.5), facecolor="white", layout="compressed")
  _scatter(figure, frames, range(len(frames)))
  save_figure(path, figure)


def point_pictures(frames: PointFrames) -> list[Picture]:
  """Return each frame as a picture of its points on the window of the last, for `save_gif`; errors as
  `save_point_strip`."""
  _require_frames(frames)
  pictures = []
  for index in range(len(frames)):
    figure = Figure(figsize=(4.0, 4.2), dpi=_DPI, facecolor="white", layout="constrained")
    _scatter(figure, frames, [index])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pictures.append(np.array(canvas.buffer_rgba())[..., :3])
  return pictures


def save_gif(path: str | os.PathLike, pictures: Sequence[Picture]) -> None:
  """Write pictures of one size as a GIF that starts again and again, its last frame held for a while.

  Raises:
    SpecError: there is no picture.
    WorkdirError: the file cannot be written.
  """
  _require_frames(pictures)
  # Without dithering, so that areas of one colour stay that; the colours of small pictures all fit.
  images = [Image.fromarray(picture).quantize(256, dither=Image.Dither.NONE) for picture in pictures]
  durations = [_FRAME_MILLISECONDS] * (len(images) - 1) + [_LAST_MILLISECONDS]
  contents = io.BytesIO()
  images[0].save(contents, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
  write_whole(path, lambda file: file.write(contents.getvalue()))


def _shares(frames: np.ndarray, levels: int | None) -> np.ndarray:
  return frames if levels is None else frames / (levels - 1.0)


def _scatter(figure: Figure, frames: np.ndarray, shown: Sequence[int]) -> None:
  require_points(frames=frames[-1])
  window = window_around(frames[-1])
  for axes, index in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
    axes.scatter(*frames[index, :_MAX_POINTS].T, s=2.5, color=ORANGE, alpha=0.5, linewidths=0)
    frame(axes, f"{index + 1} of {len(frames)}", window)


def _require_frames(frames: Sequence | np.ndarray) -> None:
  if len(frames) == 0:
    raise SpecError("a trajectory without frames cannot be drawn; at least one is needed.")
