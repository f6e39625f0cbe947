"""Curves of a run from the rows of its `metrics.jsonl`: training and validation of one metric share axes and unit.

A metric that is another one in another unit is no panel of its own, but a second scale of the other's.
"""

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from gdm.visualization.figures import BLUE, FAINT, INK, ORANGE, save_figure, style_axes


@dataclasses.dataclass(frozen=True)
class Quantity:
  """The axis of a metric: its label, whether it is logarithmic, whether less is better."""

  label: str
  log: bool = False
  less_is_better: bool = False


_NATS = "nats per example"
_QUANTITIES = {
    "nll": Quantity(f"negative log-likelihood ({_NATS})", less_is_better=True),
    "bits_per_dim": Quantity("negative log-likelihood (bits/dim)", less_is_better=True),
    "loss": Quantity("loss"),
    "grad_norm": Quantity("norm of the gradient", log=True),
    "nats_by_log_z": Quantity(f"log-likelihood by log Z ({_NATS})"),
}
_NEGATED = {"nats": "nll", "nats_mean": "nll"}  # log-likelihoods, drawn upside down beside the training loss
_SAME = 1e-3  # relative difference of values that count as the same
_COLORS = {"train": BLUE, "valid": ORANGE}
_MAX_PANELS = 6
_LEAST_DECADE = 10.0  # from the least value to the greatest, for a logarithmic axis: it has ticks at 1, 2 and 5 then

Series = tuple[np.ndarray, np.ndarray]  # steps and values


def save_curves(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], title: str = "",
                units: Mapping[str, str] = MappingProxyType({})) -> bool:
  """Draw every metric against the step, one panel each.

  Args:
    path: the file, PNG, PDF or SVG by its ending.
    rows: dicts with "step" and scalars named "train/<metric>" and "valid/<metric>"; in any order of steps.
    title: a heading, for instance the model and its data.
    units: metric -> its unit, of losses, which each model has its own of; "" for none.

  Returns:
    Whether there was a curve: with fewer than two points in every metric no file is written.

  Raises:
    WorkdirError: the file cannot be written.
  """
  panels = _panels(rows)
  scales: dict[str, list[tuple[str, float]]] = {}  # panel -> other metrics that are its curves, and their factor
  for name in sorted(panels, key=_rank):
    for first, others in scales.items():
      factor = _factor(panels[first], panels[name]) if _prefix(first) == _prefix(name) else None
      if factor is not None and (np.isclose(factor, 1.0, rtol=_SAME) or _unit(name, units)):
        others.append((name, factor))
        break
    else:
      if any(len(steps) > 1 for steps, _ in panels[name].values()):
        scales[name] = []
  names = list(scales)[:_MAX_PANELS]
  if not names:
    return False

  columns = min(len(names), 3)
  num_rows = -(-len(names) // columns)
  figure = Figure(figsize=(5.2 * columns, 3.6 * num_rows), facecolor="white", layout="constrained")
  for index, name in enumerate(names, start=1):
    axes = figure.add_subplot(num_rows, columns, index)
    _draw(axes, _quantity(name, units), panels[name])
    for other, factor in scales[name][:1]:
      if not np.isclose(factor, 1.0, rtol=_SAME):
        _add_scale(axes, factor, _unit(other, units))
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


def _rank(name: str) -> tuple[bool, int, str]:
  """Order of the panels: of the whole model first, then by quantity, then by name."""
  metric = name.rpartition("/")[2]
  return bool(_prefix(name)), list(_QUANTITIES).index(metric) if metric in _QUANTITIES else len(_QUANTITIES), name


def _quantity(name: str, units: Mapping[str, str]) -> Quantity:
  known = _QUANTITIES.get(name, Quantity(name.replace("_", " ")))
  return dataclasses.replace(known, label=f"{known.label} ({units[name]})") if units.get(name) else known


def _prefix(name: str) -> str:
  """Return the objective that a metric is of, where there are several."""
  return name.rpartition("/")[0]


def _unit(name: str, units: Mapping[str, str]) -> str:
  """Return the unit of a scale beside another; "" where a metric has none."""
  return "bits/dim" if name.rpartition("/")[2] == "bits_per_dim" else units.get(name, "")


def _factor(of: Mapping[str, Series], other: Mapping[str, Series]) -> float | None:
  """Return the positive constant by which one metric's curves become another's; None where they are no multiples of
  them."""
  if not all(split in of and np.array_equal(of[split][0], steps) for split, (steps, _) in other.items()):
    return None
  values, others = (np.concatenate([series[split][1] for split in other]) for series in (of, other))
  if not np.any(values):
    return None if np.any(others) else 1.0
  factor = float(values @ others / (values @ values))
  if np.ptp(values) == 0 and len(values) > 1 and not np.isclose(factor, 1.0, rtol=_SAME):
    return None  # constants are multiples of each other whatever they are
  return factor if factor > 0 and np.allclose(factor * values, others, rtol=_SAME, atol=0.0) else None


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
  every = np.concatenate([values for _, values in series.values()])
  if quantity.log and every.min() > 0 and every.max() >= _LEAST_DECADE * every.min():
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(_few_labels))
    axes.yaxis.set_minor_formatter(FuncFormatter(_few_labels))
  else:
    limit(axes, every)
  style_axes(axes)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  axes.xaxis.set_major_formatter(EngFormatter(sep=""))
  axes.set_xlabel("step", color=INK)
  axes.set_ylabel(quantity.label, color=INK)
  axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _add_scale(axes: Axes, factor: float, label: str) -> None:
  """Add on the right the scale of the curves times `factor`."""
  def forward(left: Any) -> Any:
    return left * factor

  def backward(right: Any) -> Any:
    return right / factor

  right = axes.secondary_yaxis("right", functions=(forward, backward))
  right.set_ylabel(label, color=INK)
  right.tick_params(labelcolor=INK, color=FAINT, labelsize=9)
  right.spines["right"].set_visible(False)


def _few_labels(value: float, position: object) -> str:
  """Plain numbers at 1, 2 and 5 of each decade: all that a logarithmic axis has room for."""
  del position
  return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def limit(axes: Axes, values: np.ndarray) -> None:
  """Let the first steep steps leave the frame at the top, so that the rest is not pressed flat."""
  low, usual, high = values.min(), np.quantile(values, 0.95), values.max()
  top = low + 1.4 * (usual - low)
  if usual > low and high > top:
    axes.set_ylim(low - 0.06 * (top - low), top)
