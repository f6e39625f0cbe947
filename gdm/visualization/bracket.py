"""The scores of an annealed model from both sides against the number of temperatures, and how far they are apart."""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from gdm.visualization.figures import BLUE, INK, ORANGE, save_figure, style_axes


def save_bracket(path: str | os.PathLike, num_temperatures: Sequence[int],
                 pessimistic: Float[np.ndarray, " points"], optimistic: Float[np.ndarray, " points"],
                 log_z_halves: Float[np.ndarray, "2 points"], *, has_upper_end: bool = True,
                 exact: float | None = None, title: str = "", names: tuple[str, str] | None = None) -> None:
  """Draw both ends, mean log-likelihoods in nats, and below them how far they are apart.

  Nothing is shaded between them: the lower one bounds the annealed sampler, so that log p may lie below both.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    num_temperatures: steps of annealing of each point.
    pessimistic: the scores by annealing back from each example, lower bounds of the sampler's log p.
    optimistic: the scores by log Z, upper bounds of the model's log p.
    log_z_halves: how far the 95 % interval of log Z reaches below and above each score by it.
    has_upper_end: whether the scores by log Z are upper bounds; of integers they are estimates.
    exact: the true value, where it is known.
    title: a heading.
    names: of the lower and the upper end, where they are found otherwise.

  Raise WorkdirError where the file cannot be written.
  """
  figure = Figure(figsize=(6.4, 6.4), facecolor="white", layout="constrained")
  ends, widths = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
  low, high, error = np.asarray(pessimistic), np.asarray(optimistic), np.asarray(log_z_halves)
  below, above = names or ("back from each example: a lower bound of the sampler's log p", "by log Z: " + (
      "an upper bound of log p" if has_upper_end else "an estimate, no upper end"))
  ends.errorbar(num_temperatures, high, yerr=error, color=ORANGE, marker="o", markersize=5, linewidth=1.6, capsize=3,
                label=above)
  ends.plot(num_temperatures, low, color=BLUE, marker="o", markersize=5, linewidth=1.6,
            label=below)
  if exact is not None:
    ends.axhline(exact, color=INK, linewidth=1.0, linestyle="--", label=f"exact {exact:.3f}")
  ends.set_ylabel("log-likelihood (nats per example)", color=INK)
  ends.legend(frameon=False, fontsize=9, labelcolor=INK)
  widths.errorbar(num_temperatures, high - low, yerr=error, color=INK, marker="o", markersize=5, linewidth=1.6,
                  capsize=3)
  widths.axhline(0.0, color=INK, linewidth=0.8)
  widths.set_ylabel("apart (nats)", color=INK)
  widths.set_xlabel("temperatures", color=INK)
  widths.set_xscale("log")
  for axes in (ends, widths):
    style_axes(axes)
  if title:
    figure.suptitle(title, color=INK, fontsize=12)
  save_figure(path, figure)
