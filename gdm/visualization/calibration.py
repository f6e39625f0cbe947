"""Calibration of a classifier: how often it is right against how sure it is."""

import os

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from gdm.visualization.figures import BLUE, FAINT, INK, save_figure, style_axes


def save_calibration(path: str | os.PathLike, counts: Int[np.ndarray, " bins"], confidence: Float[np.ndarray, " bins"],
                     share: Float[np.ndarray, " bins"], ends: Float[np.ndarray, "bins 2"], *, title: str = "") -> None:
  """Draw the share of right labels in each bin of confidence, with its interval, and below it the bins' counts.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    counts: examples in each bin; bins are of equal width in [0, 1], and empty ones are not drawn.
    confidence: mean probability of the likeliest label.
    share: of right labels.
    ends: 95 % intervals of the shares.
    title: a heading.

  Raise WorkdirError where the file cannot be written.
  """
  figure = Figure(figsize=(5.2, 6.0), facecolor="white", layout="constrained")
  shares, numbers = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
  there = counts > 0
  errors = np.maximum(np.stack([share - ends[:, 0], ends[:, 1] - share])[:, there], 0.0)
  shares.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle="--", label="calibrated")
  shares.errorbar(confidence[there], share[there], yerr=errors, color=BLUE, marker="o", markersize=5, linewidth=1.6,
                  capsize=3, label="share of labels that are right, 95 %")
  shares.set_xlim(0, 1)
  shares.set_ylim(0, 1)
  shares.set_ylabel("right", color=INK)
  shares.legend(frameon=False, fontsize=9, labelcolor=INK)
  numbers.bar((np.arange(len(counts)) + 0.5) / len(counts), counts, width=0.92 / len(counts), color=FAINT)
  numbers.set_yscale("symlog")
  numbers.set_ylabel("examples", color=INK)
  numbers.set_xlabel("probability of the likeliest label", color=INK)
  for axes in (shares, numbers):
    style_axes(axes)
  if title:
    figure.suptitle(title, color=INK, fontsize=12)
  save_figure(path, figure)
