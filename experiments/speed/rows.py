"""Rows of measurements, laid out as a table and as JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
  """One measured number.

  Attributes:
    name: what was measured.
    value: the number; None where it could not be measured, and `how` says why.
    unit: its unit; "x" for a ratio.
    how: how it was measured, in a few words.
    spread: the quartiles of the repeats.
    low: the target, where there is one: the value should not be below.
    high: likewise, not above.
  """

  name: str
  value: float | None
  unit: str
  how: str
  spread: tuple[float, float] | None = None
  low: float | None = None
  high: float | None = None

  @property
  def target(self) -> str:
    """The target in words; "" without one."""
    return " and ".join(f"{sign} {bound:g}" for sign, bound in ((">=", self.low), ("<=", self.high))
                        if bound is not None)

  @property
  def met(self) -> bool | None:
    """Whether the value keeps to its target; None without a target or a value."""
    if self.value is None or not self.target:
      return None
    return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON."""
    return {**dataclasses.asdict(self), "met": self.met}

  @classmethod
  def from_dict(cls, values: dict[str, Any]) -> "Row":
    """Return the inverse of `to_dict`."""
    fields = {field.name: values[field.name] for field in dataclasses.fields(cls)}
    return cls(**{**fields, "spread": fields["spread"] and tuple(fields["spread"])})


def render(rows: Sequence[tuple[str, Row]]) -> str:
  """One aligned table of (section, row); a section is named where it begins."""
  cells = [("section", "what", "value", "unit", "quartiles", "target", "how")]
  shown = None
  for section, row in rows:
    spread = "" if row.spread is None else f"{_number(row.spread[0])} .. {_number(row.spread[1])}"
    target = row.target + {None: "", True: " met", False: " MISSED"}[row.met]
    cells.append(("" if section == shown else section, row.name, _number(row.value), row.unit, spread, target, row.how))
    shown = section
  widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
  lines = ["  ".join(cell.rjust(width) if i == 2 else cell.ljust(width)
                     for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip() for line in cells]
  rule = "  ".join("-" * width for width in widths)
  return "\n".join([lines[0], rule, *lines[1:]])


def _number(value: float | None) -> str:
  """Three significant digits, no exponent."""
  if value is None:
    return "-"
  if abs(value) >= 100:
    return f"{value:,.0f}"
  return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.6f}"
