"""Columns of a table: what the numbers of x stand for, and samples written back as the table they are of.

`Dataset.info["columns"]` has a plain record of each dimension of x, in order, so that a checkpoint can hold it:

  {"name", "kind": "number"}                        x is the number itself
  {"name", "kind": "integer", "offset", "levels"}   x + offset is the integer
  {"name", "kind": "category", "values"}            x is the place of a category in `values`
  {"name", "kind": "bins", "edges", "values"}       x is the number of a bin; bin i is [edges[i - 1], edges[i]) and
                                                    stands for values[i], the median of its training values
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from gdm.dataspec import DataSpec

Record = Mapping[str, Any]


def num_levels(column: Record) -> int:
  """Return how many values a discrete column takes."""
  return column["levels"] if column["kind"] == "integer" else len(column["values"])


def bins(name: str, train: Num[np.ndarray, " rows"], most: int) -> Record:
  """Return a column whose numbers are cut into at most so many bins of about equally many training values.

  Where the training values are no more than that, each has its own bin, and none is changed.
  """
  distinct = np.unique(train)
  if len(distinct) <= most:
    edges, values = (distinct[1:] + distinct[:-1]) / 2, distinct
  else:
    # Edges are training values, and a bin begins with its edge, so that no bin is empty.
    edges = np.unique(np.quantile(train, np.arange(1, most) / most, method="higher"))
    edges = edges[edges > distinct[0]]
    level = np.searchsorted(edges, train, side="right")
    values = np.array([np.quantile(train[level == i], 0.5, method="lower") for i in range(len(edges) + 1)])
  return {"name": name, "kind": "bins", "edges": edges.tolist(), "values": values.tolist()}


def into_bins(column: Record, numbers: Num[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
  """Return the bin of each number; the outer bins are open."""
  return np.searchsorted(np.asarray(column["edges"]), numbers, side="right")


def as_table(info: Mapping[str, Any], spec: DataSpec, x: Num[np.ndarray, "num *event"],
             y: Int[np.ndarray, " num"] | None = None) -> list[list[str]] | None:
  """Return rows of a table: the names of its columns, then the examples in the words and units of their file.

  A level that its column does not have, which a model may give a little probability, becomes an empty cell.

  Args:
    info: the facts of the data set, `Dataset.info`.
    spec: its spec, as served.
    x: samples, as served: what standardize and quantize did to numbers is undone.
    y: their labels, where they were drawn by labels.

  Returns None where the data are no table, or transforms have made of it what cannot be undone.
  """
  columns: Sequence[Record] = info.get("columns", ())
  numbers = _numbers(info, spec, x.reshape(len(x), -1)) if columns else None
  if numbers is None:
    return None
  cells = [_cells(column, numbers[:, i]) for i, column in enumerate(columns)]
  names = [column["name"] for column in columns]
  if y is not None and "label_column" in info:
    names.append(info["label_column"])
    cells.append([info["labels"][int(label)] for label in y])
  return [names, *(list(row) for row in zip(*cells, strict=True))]


def to_csv(rows: Sequence[Sequence[str]]) -> bytes:
  """Return a table as the bytes of a CSV file."""
  file = io.StringIO(newline="")
  csv.writer(file, lineterminator="\n").writerows(rows)
  return file.getvalue().encode()


def _numbers(info: Mapping[str, Any], spec: DataSpec, x: Num[np.ndarray, "num dims"]
             ) -> Num[np.ndarray, "num dims"] | None:
  """Return x in the values that the records are about; None where there is no way back."""
  columns = info["columns"]
  if x.shape[1] != len(columns):
    return None
  if columns[0]["kind"] != "number":
    return x if spec.levels == max(2, *map(num_levels, columns)) else None
  if spec.levels is not None:
    if "quantize" not in info:
      return None
    low, high = (np.asarray(info["quantize"][end]) for end in ("low", "high"))
    x = low + (x + 0.5) / spec.levels * (high - low)
  if "standardize" not in info:
    return x
  return np.asarray(x, np.float64) * np.asarray(info["standardize"]["std"]) + np.asarray(info["standardize"]["mean"])


def _cells(column: Record, numbers: Num[np.ndarray, " num"]) -> list[str]:
  if column["kind"] == "number":
    return [_words(number) for number in numbers]
  most = num_levels(column)
  levels = [int(number) if number < most else None for number in numbers]
  if column["kind"] == "integer":
    return ["" if level is None else str(level + column["offset"]) for level in levels]
  values = [value if isinstance(value, str) else _words(value) for value in column["values"]]
  return ["" if level is None else values[level] for level in levels]


def _words(number: float | Float[np.ndarray, ""]) -> str:
  return f"{float(number):.9g}"
