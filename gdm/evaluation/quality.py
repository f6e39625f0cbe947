"""Quality of samples: their kernel distances from data, beside each other and beside the data's own floor."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from gdm.evaluation.kernel_distance import (
    DistanceEstimate,
    Gaussian,
    KernelDistance,
    KernelMoments,
    Points,
    PolynomialKernel,
    median_bandwidth,
)
from gdm.evaluation.quality_tables import aligned
from gdm.paths import write_whole

CUBIC, GAUSSIAN = "cubic", "gaussian"
_SHOWN = 1000.0  # squared distances are printed times this


@dataclasses.dataclass(frozen=True, eq=False)
class Yardstick:
  """Kernel distances from the features of one set of data.

  The bandwidth is that of the training split, so that it is the same for every split and depends neither on the data
  compared with nor on the samples.
  """

  bandwidth: float
  distances: Mapping[str, KernelDistance]

  @classmethod
  def of(cls, train: Points, data: Points) -> "Yardstick":
    """Raise DataError where the data are too few or all alike."""
    bandwidth = median_bandwidth(train)
    kernels = {CUBIC: PolynomialKernel(3), GAUSSIAN: Gaussian(bandwidth)}
    return cls(bandwidth, {name: KernelDistance(kernel, data) for name, kernel in kernels.items()})

  def moments(self, samples: Points) -> dict[str, KernelMoments]:
    """Return the samples as the kernels compare them."""
    return {name: distance.moments(samples) for name, distance in self.distances.items()}

  def squared(self, of: Mapping[str, KernelMoments]) -> dict[str, DistanceEstimate]:
    """Squared distances from the data, by kernel."""
    return {name: distance.squared(of[name]) for name, distance in self.distances.items()}

  def difference(self, of: Mapping[str, KernelMoments],
                 others: Mapping[str, KernelMoments]) -> dict[str, DistanceEstimate]:
    """Return how much farther from the data they are than others, by kernel."""
    return {name: distance.difference(of[name], others[name]) for name, distance in self.distances.items()}


@dataclasses.dataclass(frozen=True)
class QualityRow:
  """A set of samples, or of other data, as compared with the data.

  Attributes:
    name: what drew them.
    num: how many there are.
    squared: squared distances by kernel.
    difference: what they differ by from those of the reference; None of the reference itself.
    sampler, steps, nfe, samples_per_second: how they were drawn, where that is known.
  """

  name: str
  num: int
  squared: Mapping[str, DistanceEstimate]
  difference: Mapping[str, DistanceEstimate] | None = None
  sampler: str | None = None
  steps: int | None = None
  nfe: float | None = None
  samples_per_second: float | None = None


def table(rows: Sequence[QualityRow], floor: QualityRow, reference: str | None) -> str:
  """Return a line for each row, then the floor: squared distances and differences from the reference, times 1,000."""
  kernels = list(floor.squared)
  heading = ["samples", "NFE", "samples/s", *(f"{name} MMD² x 1000 ± 95 %" for name in kernels)]
  if reference is not None:
    heading += [f"{name} - {reference} ± 95 %" for name in kernels]
  lines = [heading]
  for row in (*rows, floor):
    cells = [row.name, "" if row.nfe is None else f"{row.nfe:g}",
             "" if row.samples_per_second is None else _rate(row.samples_per_second),
             *(_cell(row.squared[name]) for name in kernels)]
    if reference is not None:
      cells += [_difference_cell(row, name) for name in kernels]
    lines.append(cells)
  return aligned(lines)


def write_quality(path: str | os.PathLike, about: Mapping[str, Any], rows: Sequence[QualityRow], floor: QualityRow,
                  reference: str | None, measures: Mapping[str, Any] | None = None) -> None:
  """Write everything as JSON, distances as they are. Raise WorkdirError where it cannot be written."""
  contents = {**about, "reference": reference, "rows": [_plain(row) for row in rows], "floor": _plain(floor),
              "measures": dict(measures or {})}
  text = json.dumps(contents, indent=2, allow_nan=False) + "\n"
  write_whole(path, lambda file: file.write(text.encode()))


def _rate(rate: float) -> str:
  return f"{rate:,.0f}" if rate >= 100.0 else f"{rate:.3g}"


def _cell(estimate: DistanceEstimate) -> str:
  return f"{_SHOWN * estimate.value:.3f} ± {_SHOWN * estimate.half:.3f}"


def _difference_cell(row: QualityRow, name: str) -> str:
  """Return the difference, half its interval, and how many standard errors worse it is."""
  if row.difference is None:
    return ""
  value, stderr, half = row.difference[name]
  ratio = f" ({value / stderr:+.1f} s.e.)" if stderr > 0 else ""
  return f"{_SHOWN * value:+.3f} ± {_SHOWN * half:.3f}{ratio}"


def _plain(row: QualityRow) -> dict[str, Any]:
  plain = dataclasses.asdict(row)
  for field in ("squared", "difference"):
    if plain[field] is not None:
      plain[field] = {name: {"value": value, "stderr": stderr, "ci95": [value - half, value + half]}
                      for name, (value, stderr, half) in plain[field].items()}
  return plain
