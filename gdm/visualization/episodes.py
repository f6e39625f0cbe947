"""Episodes as curves, each dimension of the frames against the step, or as strips of pictures, of several worlds."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Integer
from matplotlib.figure import Figure

from gdm.errors import SpecError
from gdm.visualization.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, save_figure, style_axes
from gdm.visualization.images import save_side_by_side

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
COLUMNS = 8  # pictures of an episode


def save_episodes(path: str | os.PathLike, worlds: Mapping[str, Float[np.ndarray, "_ _ _"]]) -> None:
  """Write a column of panels for each world and a row for each of its episodes, with a colour for each dimension.

  Args:
    path: the file.
    worlds: title -> frames [episodes, steps, dims].

  Raise SpecError where there are none, WorkdirError where the file cannot be written.
  """
  rows = max((len(frames) for frames in worlds.values()), default=0)
  if not rows:
    raise SpecError("no episodes to draw; at least one is needed.")
  figure = Figure(figsize=(4.5 * len(worlds), 1.2 * rows + 0.5), layout="constrained")
  panels = figure.subplots(rows, len(worlds), squeeze=False, sharex=True, sharey=True)
  for column, (title, frames) in enumerate(worlds.items()):
    panels[0, column].set_title(title, fontsize=10, color=INK)
    for axes, episode in zip(panels[:, column], frames, strict=False):
      for number, curve in enumerate(np.asarray(episode).T):
        axes.plot(curve, color=COLOURS[number % len(COLOURS)], linewidth=1.0)
  for axes in panels.ravel():
    style_axes(axes)
  figure.supxlabel("step", fontsize=9, color=INK)
  save_figure(path, figure)


def save_pictures(path: str | os.PathLike, worlds: Mapping[str, Sequence[Integer[np.ndarray, "_ _ _ _"]]], *,
                  levels: int, columns: int = COLUMNS, scale: int = 4) -> None:
  """Write a panel for each world, with a row of pictures for each of its episodes, evenly spaced steps of it.

  Args:
    path: the file.
    worlds: title -> pictures [steps, height, width, channels] of each episode, all of one size.
    levels: number of values of a pixel.
    columns: pictures of an episode.
    scale: screen pixels per pixel.

  Raise SpecError where there are none, WorkdirError where the file cannot be written.
  """
  if not worlds or not all(len(episodes) for episodes in worlds.values()):
    raise SpecError("no episodes to draw; at least one is needed.")
  rows = {title: np.concatenate([np.asarray(episode)[np.linspace(0, len(episode) - 1, columns).round().astype(int)]
                                 for episode in episodes]) for title, episodes in worlds.items()}
  save_side_by_side(path, rows, levels=levels, columns=columns, scale=scale)
