"""Curves of a run from the rows of its `metrics.jsonl`: training and validation of one metric share axes and unit."""

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from gdm.visualization.figures import BLUE, FAINT, INK, ORANGE, save_figure, style_axes


@dataclasses.dataclass(frozen=True)
class Quantity:
  """What a metric measures: the label of its axis, whether that is logarithmic, whether less is better."""

  label: str
  log: bool = False
  less_is_better: bool = False


_NATS = "nats per example"
_QUANTITIES = {
    "nll": Quantity(f"negative log-likelihood ({_NATS})", less_is_better=True),
    "bits_per_dim": Quantity("negative log-likelihood (bits/dim)", less_is_better=True),
    "loss": Quantity(f"loss ({_NATS})"),
    "grad_norm": Quantity("norm of the gradient", log=True),
}
_NEGATED = {"nats": "nll", "nats_mean": "nll"}  # log-likelihoods, drawn upside down beside the training loss
_COLORS = {"train": BLUE, "valid": ORANGE}
_MAX_PANELS = 6

Series = tuple[np.ndarray, np.ndarray]  # steps and values


def save_curves(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], title: str = "") -> bool:
  """Draws every metric against the step, one panel each.

  Args:
    path: the PNG file.
    rows: dicts with "step" and scalars named "train/<metric>" and "valid/<metric>"; in any order of steps.
    title: a heading, for instance the model and its data.

  Returns:
    Whether there was a curve: with fewer than two points in every metric no file is written.

  Raises:
    WorkdirError: the file cannot be written.
  """
  panels = _panels(rows)
  bits_per_nat = _bits_per_nat(panels)
  if bits_per_nat is not None:
    del panels["bits_per_dim"]  # the same curve in another unit, which the right-hand axis shows
  if _same(panels.get("loss", {}), panels.get("nll", {})):
    del panels["loss"]
  names = sorted((name for name, series in panels.items() if any(len(steps) > 1 for steps, _ in series.values())),
                 key=lambda name: (list(_QUANTITIES).index(name) if name in _QUANTITIES else len(_QUANTITIES), name))
  names = names[:_MAX_PANELS]
  if not names:
    return False

  columns = min(len(names), 3)
  num_rows = -(-len(names) // columns)
  figure = Figure(figsize=(5.2 * columns, 3.6 * num_rows), facecolor="white", layout="constrained")
  for index, name in enumerate(names, start=1):
    axes = figure.add_subplot(num_rows, columns, index)
    _draw(axes, _QUANTITIES.get(name, Quantity(name.replace("_", " "))), panels[name])
    if name == "nll" and bits_per_nat is not None:
      _add_bits_axis(axes, bits_per_nat)
  if title:
    figure.suptitle(title, color=INK, fontsize=12)
  save_figure(path, figure)
  return True


def _panels(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Series]]:
  """Metric -> split -> its finite points by step; names without a split are of training."""
  points: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
  for row in rows:
    for full_name, value in row.items():
      if full_name == "step" or not isinstance(value, int | float) or not np.isfinite(value):
        continue
      split, _, name = full_name.rpartition("/") if full_name.count("/") == 1 else full_name.partition("/")
      split, name = (split, name) if split in _COLORS else ("train", full_name)
      sign = -1.0 if name in _NEGATED else 1.0
      points[_NEGATED.get(name, name)][split][row["step"]] = sign * value
  return {name: {split: _series(splits[split]) for split in _COLORS if split in splits}
          for name, splits in points.items()}


def _series(points: Mapping[int, float]) -> Series:
  steps = sorted(points)
  return np.array(steps), np.array([points[step] for step in steps])


def _bits_per_nat(panels: Mapping[str, Mapping[str, Series]]) -> float | None:
  """The constant that turns nats per example into bits/dim, where the rows hold both for the same steps."""
  nats, bits = (panels.get(name, {}).get("valid") for name in ("nll", "bits_per_dim"))
  if nats is None or bits is None or "train" not in panels["nll"] or not np.array_equal(nats[0], bits[0]):
    return None
  ratio = bits[1][-1] / nats[1][-1] if nats[1][-1] else 0.0
  return float(ratio) if ratio > 0 and np.allclose(bits[1], ratio * nats[1], rtol=1e-3) else None


def _same(a: Mapping[str, Series], b: Mapping[str, Series]) -> bool:
  return bool(a) and all(split in b and len(b[split][0]) == len(steps) and np.allclose(values, b[split][1], rtol=1e-4)
                         for split, (steps, values) in a.items())


def _draw(axes: Axes, quantity: Quantity, series: Mapping[str, Series]) -> None:
  for split, (steps, values) in series.items():
    label = split
    if split == "valid" and quantity.less_is_better:
      best = int(np.argmin(values))
      label = f"valid, best {values[best]:.4g} at step {steps[best]:,}"
      axes.plot(steps[best], values[best], "o", color=_COLORS[split], markersize=7, markerfacecolor="white",
                markeredgewidth=1.6, zorder=3)
    axes.plot(steps, values, color=_COLORS[split], linewidth=1.6, label=label,
              marker="." if len(steps) <= 30 else None, markersize=6)
  if quantity.log and all(np.all(values > 0) for _, values in series.values()):
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(_few_labels))
    axes.yaxis.set_minor_formatter(FuncFormatter(_few_labels))
  else:
    _limit(axes, np.concatenate([values for _, values in series.values()]))
  style_axes(axes)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  axes.xaxis.set_major_formatter(EngFormatter(sep=""))
  axes.set_xlabel("step", color=INK)
  axes.set_ylabel(quantity.label, color=INK)
  axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _add_bits_axis(axes: Axes, bits_per_nat: float) -> None:
  def to_bits(nats: Any) -> Any:
    return nats * bits_per_nat

  def to_nats(bits: Any) -> Any:
    return bits / bits_per_nat

  right = axes.secondary_yaxis("right", functions=(to_bits, to_nats))
  right.set_ylabel("bits/dim", color=INK)
  right.tick_params(labelcolor=INK, color=FAINT, labelsize=9)
  right.spines["right"].set_visible(False)


def _few_labels(value: float, position: object) -> str:
  """Plain numbers at 1, 2 and 5 of each decade: all that a logarithmic axis has room for."""
  del position
  return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def _limit(axes: Axes, values: np.ndarray) -> None:
  """Lets the first steep steps leave the frame at the top, so that the rest is not pressed flat."""
  low, usual, high = values.min(), np.quantile(values, 0.95), values.max()
  top = low + 1.4 * (usual - low)
  if usual > low and high > top:
    axes.set_ylim(low - 0.06 * (top - low), top)
