"""Why two reports can or cannot share a table, in words."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gdm.evaluation.intervals import plus_minus
from gdm.evaluation.report import Report, one_line, read_report
from gdm.evaluation.scores import paired_difference, read_scores, scores_path


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


def comparison_lines(*paths: Path) -> Iterator[str]:
  """Yield lines about two reports: each of them, what keeps them apart or their difference, and how they were scored.

  Raise DataError where one of them cannot be read.
  """
  first, second = reports = [read_report(path) for path in paths]
  yield from map(one_line, reports)
  found = compare_reports(first, second)
  if found.apart:
    yield from ("they cannot share a table:", *(f"  {each}" for each in found.apart))
  else:
    yield "they share a table."
    yield _difference(paths, reports)
  if found.beside:
    yield from ("they differ in how they were scored:", *(f"  {each}" for each in found.beside))


def _difference(paths: Sequence[Path], reports: Sequence[Report]) -> str:
  one, other = (read_scores(scores_path(path), report) for path, report in zip(paths, reports, strict=True))
  if one is None or other is None:
    return "no scores of each example were kept; evaluate again for the paired difference."
  is_discrete = reports[0]["bits_per_dim"] is not None
  found = paired_difference([one], [other], is_discrete)
  unit = "bits/dim" if is_discrete else "nats"
  return (f"the first minus the second: {plus_minus(found.mean, found.ci95, sign='+')} {unit} "
          f"({found.kind.replace('_', ' ')}, 95 % interval, paired over {len(one.nats)} examples)")
