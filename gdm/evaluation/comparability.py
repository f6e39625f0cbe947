"""Why two reports can or cannot share a table, in words."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gdm.evaluation.report import Report


class Comparison(NamedTuple):
  """What two reports differ by, a sentence each.

  Attributes:
    apart: what keeps them from sharing a table.
    beside: what a reader of their table must know.
  """

  apart: tuple[str, ...]
  beside: tuple[str, ...]


def compare_reports(first: Report, second: Report) -> Comparison:
  """Compare two reports of `evaluate` or `add_row`.

  A table is of one split by the fingerprint of its examples, one condition, and one number of dimensions; all else may
  differ in it.
  """
  def of(name: str, default: Any = None) -> tuple[Any, Any]:
    return first.get(name, default), second.get(name, default)

  def tell(words: str, pair: tuple[Any, Any], show: Callable[[Any], str] = str) -> list[str]:
    return [] if pair[0] == pair[1] else [f"{words}: {show(pair[0])} there, {show(pair[1])} here"]

  transforms = tell("other transforms", of("transforms", []), lambda names: ", ".join(names) or "none")
  apart = [*tell("other splits", of("split")), *transforms]
  prints = of("data_fingerprint")
  if prints[0] != prints[1] and not apart:
    apart += tell("other data", prints) + tell("by another name", of("dataset"))
  elif prints[0] != prints[1]:
    apart += tell("other data", of("dataset"))
  apart += tell("another number of examples", of("num_examples"))
  apart += tell("another condition", of("given"), lambda names: f"given {', '.join(names) or 'nothing'}")
  apart += tell("a mass and a density", of("bits_per_dim"), lambda bits: "density" if bits is None else "mass"
                ) if (first["bits_per_dim"] is None) != (second["bits_per_dim"] is None) else []
  dims = tuple(round(report["num_dims"] * report["num_examples"]) for report in (first, second))
  apart += tell("another number of scored dimensions", dims) if first["num_examples"] == second["num_examples"] else []

  samples = tuple(report.get("evaluation", {}).get("num_samples", 1) for report in (first, second))
  ways = tuple(report.get("text", {}).get("way", "") for report in (first, second))
  beside = [*tell("given more or less of the text", ways),
            *tell("another kind", of("kind"), lambda kind: str(kind).replace("_", " ")),
            *tell("other draws", of("num_draws")), *tell("other importance samples", samples),
            *tell("another precision of products", of("precision")), *tell("another dtype", of("dtype")),
            *tell("other weights", of("parameters"))]
  return Comparison(tuple(apart), tuple(beside))
