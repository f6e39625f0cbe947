"""Episodes as curves: each dimension of the frames against the step, those of several worlds beside each other."""

import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from gdm.errors import SpecError
from gdm.visualization.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, save_figure, style_axes

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)


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
