"""Tables with named columns, whatever file they come from: which columns are x, the label and the context.

Options, after "#" and joined by "&"; names are joined by commas:

  columns=a,b          the columns of x, in this order; by default all that are neither label nor context
  label=c              the column of labels: each of its values is a class
  context=d,e          columns of numbers that x is to be conditioned on: "context" of a batch
  categorical=f        columns of x whose values are names, text or not
  numbers=levels|real  whether columns of integers are levels, or real numbers; by default levels where all columns that
                       are not categorical are integers
  bins=16              numbers become levels: each column is cut into at most 16 bins by quantiles of the training split
  valid, test, split   see gdm/data/partition.py

A data set is of one kind: levels for every column, or real numbers for every column. Categories are levels in the order
of their names, integers are levels counted from the smallest; `DataSpec.levels` is that of the column with the most.
Where numbers with fractions stand beside categories, `bins` makes levels of them, or `columns` chooses. Categories and
integers are those of the whole file, bins those of the training split. `Dataset.info["columns"]` says what x stands for
(gdm/data/columns.py).
Other data for a trained model are coded by the records that it knows, by the names of columns, in whatever order and
with whatever values missing; a value that the model does not know is an error.
"""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from gdm.data import partition
from gdm.data.columns import Record, bins, into_bins, num_levels
from gdm.data.dataset import SPLITS, Dataset
from gdm.data.sources.request import Request
from gdm.data.split import MemorySplit
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, nearest

OPTIONS = ("columns", "label", "context", "categorical", "numbers", "bins", *partition.OPTIONS)
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))  # cells without a value, in any case
MOST_LEVELS = 65536  # of a column of integers
_EXACT = 2.0**53  # up to here float64 holds every integer

# Columns by name: text as arrays of str, numbers as arrays of numbers with NaN where one is missing.
Table = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Chosen:
  """Names of columns by their part."""

  x: tuple[str, ...]
  label: str | None
  context: tuple[str, ...]
  categorical: tuple[str, ...]


def from_tables(parts: Mapping[str, Table], request: Request, where: str,
                class_names: Mapping[str, Sequence[str]] | None = None, *, label: str = "", name: str = "",
                facts: Mapping[str, Any] | None = None) -> Dataset:
  """Return the set of a table, or of one table for each split; all have the same columns.

  Args:
    parts: tables by split: "train" alone where the rule is to split it.
    request: with the options `OPTIONS`; its argument is the path.
    where: the file, as the subject of messages.
    class_names: of columns that are categories unasked: names that integers are places of, or () for text.
    label: column of labels where the request names none.
    name: name of the set; by default that of the file, with the options.
    facts: plain facts for `Dataset.info`; by default the path.

  Raise ConfigError for an unknown column or options that do not go together, DataError for missing values, for text
  that is not named categorical, and numbers beside categories; each names the columns.
  """
  sizes = [len(next(iter(table.values()))) for table in parts.values()]
  table = {name: np.concatenate([part[name] for part in parts.values()]) for name in parts["train"]}
  named = class_names or {}
  chosen = _choose(table, request, where, label, named)
  _refuse_missing({name: table[name] for name in (*chosen.x, *chosen.context, *filter(None, [chosen.label]))},
                  chosen, where)
  known = {record["name"]: record for record in request.columns}
  if set(known) == set(chosen.x):  # the same columns, in whatever order they stand in this file
    chosen = dataclasses.replace(chosen, x=tuple(known))
    columns, rows = _coded_as(known, table, named, where)
  else:
    columns, rows = _coded(table, chosen, named, request, where)
  info: dict[str, Any] = {"source": request.argument} if facts is None else dict(facts)
  if chosen.label is not None:
    labels, places = _categories(table[chosen.label], named.get(chosen.label))
    if request.labels[0] == chosen.label and labels != list(request.labels[1]):
      labels, places = list(request.labels[1]), _places(chosen.label, table[chosen.label], request.labels[1], where)
    rows["y"] = places.astype(np.int32)  # as labels of other sources
    info |= {"label_column": chosen.label, "labels": labels}
  if chosen.context:
    rows["context"] = np.stack([_as_real(name, _numbers(name, table[name], "a context column", where), where)
                                for name in chosen.context], 1)
    info["context_columns"] = list(chosen.context)
  cuts = np.cumsum(sizes)[:-1]
  split_rows = {name: dict(zip(rows, arrays, strict=True)) for name, arrays in
                zip(parts, zip(*(np.split(values, cuts) for values in rows.values()), strict=True), strict=True)}
  splits, rule = partition.complete(split_rows, request, where)
  if "bins" in request.options and columns != list(known.values()):
    columns, splits = _binned(columns, splits, request.integer("bins", minimum=2))
  levels, why = _levels(columns)
  spec = DataSpec((len(columns),), levels, num_classes=len(info["labels"]) if "labels" in info else None,
                  context_dims=len(chosen.context))
  return Dataset(name or f"{request.kind}:{pathlib.Path(request.argument).stem}{request.shown}", spec,
                 {name: MemorySplit(splits[name]) for name in SPLITS if name in splits},
                 {**info, "columns": columns, "levels": why, "split": rule})


def is_asked(name: str, request: Request) -> bool:
  """Return whether a request reads a column: any, unless its options name the columns of x and it is none of theirs."""
  return "columns" not in request.options or any(
      name in request.names(option) for option in ("columns", "label", "context"))


def columns_used(known: Sequence[str], request: Request, where: str, label: str = "") -> tuple[str, ...]:
  """Return which of the known columns a request reads: those of x, the label and the context.

  Raise ConfigError as `from_tables` does, so that a source needs to read no others.
  """
  chosen = _choose(known, request, where, label)
  return (*chosen.x, *filter(None, [chosen.label]), *chosen.context)


def _choose(table: Collection[str], request: Request, where: str, label: str = "",
            named: Collection[str] = ()) -> _Chosen:
  """Return the columns that the options name, or else the label, and as categories also those that have names."""
  for option in ("columns", "label", "context", "categorical"):
    for name in request.names(option):
      if name not in table:
        raise ConfigError(f"data.name: option {option} of {request.kind} names {name!r}, but {where} has no such "
                          f"column; {nearest(name, table)}")
  labels, context = request.names("label"), request.names("context")
  if label and "label" not in request.options and label not in (*request.names("columns"), *context):
    labels = (label,)
  if len(labels) > 1:
    raise ConfigError(f"data.name: option label={','.join(labels)} of {request.kind} must name one column.")
  x = request.names("columns") or tuple(name for name in table if name not in (*labels, *context))
  used = (*x, *labels, *context)
  if twice := sorted({name for name in used if used.count(name) > 1}):
    raise ConfigError(f"data.name: column {twice[0]!r} of {where} is named twice; it can be one of columns, label and "
                      "context.")
  if not x:
    raise ConfigError(f"data.name: {where} has no column beside label and context; x needs one or more.")
  if others := [name for name in request.names("categorical") if name not in x]:
    raise ConfigError(f"data.name: option categorical names {others[0]!r}, which is none of the columns of x: "
                      f"{', '.join(x)}.")
  return _Chosen(x, labels[0] if labels else None, context,
                 (*request.names("categorical"), *(name for name in x if name in named)))


def _refuse_missing(table: Table, chosen: _Chosen, where: str) -> None:
  """Raise a DataError that counts the missing values by column."""
  counts = {}
  for name, values in table.items():
    if values.dtype.kind == "f":
      counts[name] = int(np.isnan(values).sum())
    elif values.dtype.kind in "UO":
      # A category may be called "none" or "?", but not nothing at all.
      words = MISSING if name not in (*chosen.categorical, chosen.label) else {""}
      counts[name] = sum(str(value).strip().lower() in words for value in values)
  missing = {name: count for name, count in counts.items() if count}
  if missing:
    rows = len(next(iter(table.values())))
    raise DataError(f"{where} has missing values: {', '.join(f'{name} {count}' for name, count in missing.items())} "
                    f"of {rows} rows; fill them, or leave out these rows, or these columns by #columns=.")


def _coded(table: Table, chosen: _Chosen, named: Mapping[str, Sequence[str]], request: Request, where: str
           ) -> tuple[list[Record], dict[str, np.ndarray]]:
  """Return the records of the columns of x, and x: codes of categories, and numbers as they are or from 0 on."""
  categorical = set(chosen.categorical)
  plain = {name: _numbers(name, table[name], "", where) for name in chosen.x if name not in categorical}
  fractional = [name for name, values in plain.items() if values.dtype.kind == "f"]
  numbers = request.choice("numbers", ("levels", "real"), "real" if fractional else "levels")
  if "bins" not in request.options:
    _refuse_mixed(fractional, numbers, sorted(categorical), list(plain), where)
  is_real = numbers == "real" or "bins" in request.options
  columns: list[Record] = []
  codes = []
  for name in chosen.x:
    if name in categorical:
      values, code = _categories(table[name], named.get(name))
      columns.append({"name": name, "kind": "category", "values": values})
    elif is_real:
      code = _as_real(name, plain[name], where)
      columns.append({"name": name, "kind": "number"})
    else:
      offset, levels = _range(name, plain[name], where)
      code = plain[name] - offset
      columns.append({"name": name, "kind": "integer", "offset": offset, "levels": levels})
    codes.append(code)
  return columns, {"x": np.stack(codes, axis=1)}


def _coded_as(known: Mapping[str, Record], table: Table, named: Mapping[str, Sequence[str]], where: str
              ) -> tuple[list[Record], dict[str, np.ndarray]]:
  """Return the records that a model knows, and x by them. Raise a DataError for a value that they do not have."""
  codes = []
  for name, record in known.items():
    values = table[name]
    if record["kind"] == "category":
      is_place = bool(named.get(name)) and values.dtype.kind in "biu"
      codes.append(values.astype(np.int64) if is_place else _places(name, values, record["values"], where))
      continue
    numbers = _numbers(name, values, "", where)
    if record["kind"] == "integer":
      low, high = record["offset"], record["offset"] + record["levels"] - 1
      outside = np.flatnonzero((numbers < low) | (numbers > high) | (numbers != np.rint(numbers)))
      if len(outside):
        raise DataError(f"{where}: column {name!r} holds {numbers[outside[0]]}, but the run was trained on data "
                        f"where it holds integers from {low} to {high}; leave out such rows.")
      codes.append(numbers.astype(np.int64) - low)
    else:
      real = _as_real(name, numbers, where)
      codes.append(into_bins(record, real) if record["kind"] == "bins" else real)
  return list(known.values()), {"x": np.stack(codes, axis=1)}


def _places(name: str, values: np.ndarray, known: Sequence[str], where: str) -> np.ndarray:
  """Return the place of each value among known names. Raise a DataError for one that is not among them."""
  places = {text: place for place, text in enumerate(known)}
  found = [str(value) for value in values.astype(np.str_)]
  if missing := [text for text in found if text not in places]:
    raise DataError(f"{where}: column {name!r} holds {missing[0]!r}, which it does not in the data that the run was "
                    f"trained on; {nearest(missing[0], known)}")
  return np.array([places[text] for text in found], np.int64)


def _refuse_mixed(fractional: Sequence[str], numbers: str, categorical: Sequence[str], plain: Sequence[str],
                  where: str) -> None:
  """Raise a ConfigError where the columns are not of one kind."""
  if fractional and numbers == "levels":
    raise ConfigError(f"data.name: numbers=levels, but column {fractional[0]!r} of {where} has fractions; cut it into "
                      "levels by bins=16, or leave it out by #columns=.")
  if categorical and plain and numbers == "real":
    which = fractional[0] if fractional else plain[0]
    raise ConfigError(f"data.name: columns of {where} are of two kinds: {which!r} holds real numbers, "
                      f"{categorical[0]!r} categories. Choose columns of one kind by #columns=, or make levels of the "
                      "numbers by &bins=16.")


def _numbers(name: str, values: np.ndarray, what: str, where: str) -> np.ndarray:
  """Return a column as integers where all are, else as floating-point numbers; `what` it is, where it must be those."""
  found = _parsed(values)
  if found is None:
    wrong = next(value for value in values if not is_number(value))
    right = (f"{what} must hold numbers" if what else
             f"say that its values are categories by #categorical={name}, or leave it out by #columns=")
    raise DataError(f"{where}: column {name!r} holds text, as {str(wrong)[:40]!r}; {right}.")
  if not np.isfinite(found).all():
    raise DataError(f"{where}: column {name!r} holds {found[~np.isfinite(found)][0]}; every number must be finite.")
  if values.dtype.kind in "uUO" and found.dtype.kind == "f":  # integers among them may be beyond float64's digits
    for place in np.flatnonzero(np.abs(found) > _EXACT):
      if (whole := _whole(values[place])) is not None and int(found[place]) != whole:
        raise _too_long(name, whole, where)
  return found


def _whole(value: Any) -> int | None:
  """Return a cell as an integer, None where it is written as another number."""
  try:
    return int(value)
  except ValueError:
    return None


def _as_real(name: str, values: np.ndarray, where: str) -> np.ndarray:
  """Return a column in float64. Raise a DataError where that would change an integer."""
  real = values.astype(np.float64)
  if values.dtype.kind != "f":
    for place in np.flatnonzero(np.abs(real) > _EXACT):
      if int(real[place]) != int(values[place]):
        raise _too_long(name, values[place], where)
  return real


def _too_long(name: str, value: Any, where: str) -> DataError:
  return DataError(f"{where}: column {name!r} holds the integer {value}, which float64 would round; subtract an offset "
                   "from the column, or leave it out by #columns=.")


def _parsed(values: np.ndarray) -> np.ndarray | None:
  """Return values as integers, else as floating-point numbers; None where they are text."""
  if values.dtype.kind in "biuf":
    fits = values.dtype.kind in "bi" or (values.dtype.kind == "u" and int(values.max()) <= np.iinfo(np.int64).max)
    return values.astype(np.int64 if fits else np.float64)
  if any("_" in str(value) for value in values):  # Python's own notation of long numbers
    return None
  for kind in (np.int64, np.float64):
    try:
      return values.astype(np.str_).astype(kind)
    except (ValueError, OverflowError):
      continue
  return None


def is_number(value: Any) -> bool:
  """Return whether a cell is a number."""
  try:
    float(value)
  except ValueError:
    return False
  return "_" not in str(value)  # which Python takes for 1000 in 1_000


def _categories(values: np.ndarray, names: Sequence[str] | None) -> tuple[list[str], np.ndarray]:
  """Return the names of the categories, numbers in their order and text by its letters, and the place of each value."""
  if names and values.dtype.kind in "biu":
    return list(names), values.astype(np.int64)
  distinct, places = np.unique(values.astype(np.str_), return_inverse=True)
  texts = [str(value) for value in distinct]
  are_numbers = all(map(is_number, texts))
  order = sorted(range(len(texts)), key=lambda i: (float(texts[i]) if are_numbers else 0.0, texts[i]))
  rank = np.empty(len(order), np.int64)
  rank[order] = np.arange(len(order))
  return [texts[i] for i in order], rank[places]


def _range(name: str, values: np.ndarray, where: str) -> tuple[int, int]:
  """Return the smallest integer of a column, and how many there are up to the largest."""
  low, high = int(values.min()), int(values.max())
  if high - low >= MOST_LEVELS:
    raise DataError(f"{where}: the integers of column {name!r} reach from {low} to {high}, which are {high - low + 1} "
                    f"levels; there may be {MOST_LEVELS}. Take them for real numbers by #numbers=real, cut them by "
                    "#bins=16, or leave the column out by #columns=.")
  return low, high - low + 1


def _binned(columns: Sequence[Record], splits: Mapping[str, Mapping[str, np.ndarray]], most: int
            ) -> tuple[list[Record], dict[str, dict[str, np.ndarray]]]:
  """Return the records and splits with numbers as levels, by quantiles of the training split."""
  train = splits["train"]["x"]
  found = [bins(column["name"], train[:, i], most) if column["kind"] == "number" else column
           for i, column in enumerate(columns)]
  whole = {}
  for name, rows in splits.items():
    codes = [into_bins(column, rows["x"][:, i]) if column["kind"] == "bins" else rows["x"][:, i].astype(np.int64)
             for i, column in enumerate(found)]
    whole[name] = {**rows, "x": np.stack(codes, axis=1)}
  return found, whole


def _levels(columns: Sequence[Record]) -> tuple[int | None, str]:
  """Return the levels that all columns have, and which column needs them."""
  if columns[0]["kind"] == "number":
    return None, "columns of numbers"
  most = max(columns, key=num_levels)
  return max(2, num_levels(most)), f"column {most['name']!r} has {num_levels(most)}"
