"""Tables as text: `csv:<path>` and `tsv:<path>`, UTF-8, with the options of table.py and

  header=yes | no    whether the first line names the columns; without, they are called 1, 2, ...
  delimiter=;        the character between cells: by default a comma, or in TSV a tab (also written "tab")

CSV cells may be quoted, with line breaks inside; TSV cells are taken as they are. Empty lines are left out.
"""

import csv
import io
import pathlib
from collections.abc import Iterator

import numpy as np

from gdm.data.dataset import Dataset
from gdm.data.sources import table
from gdm.data.sources.request import Request
from gdm.errors import ConfigError, DataError
from gdm.paths import why_no_file

OPTIONS = (*table.OPTIONS, "header", "delimiter")
_DELIMITERS = {"csv": ",", "tsv": "\t"}


def load(request: Request) -> Dataset:
  """Return the set of a table of text. Raise DataError for a file that is missing, is no text, or has a row of another
  length, with its line; and what `table.from_tables` raises."""
  path = pathlib.Path(request.argument)
  where = f"{request.kind} file {path}"
  return table.from_tables({"train": read(path, request, where)}, request, where)


def read(path: pathlib.Path, request: Request, where: str) -> dict[str, np.ndarray]:
  """Return the columns of a file as text, by name."""
  delimiter = request.options.get("delimiter", _DELIMITERS[request.kind])
  delimiter = "\t" if delimiter == "tab" else delimiter
  if len(delimiter) != 1:
    raise ConfigError(f"data.name: option delimiter={delimiter!r} of {request.kind} must be one character, or tab.")
  has_header = request.choice("header", ("yes", "no"), "yes") == "yes"
  lines = _rows(_text(path, where), delimiter, request.kind, where)
  first_line, first = next(lines, (1, []))
  names = first if has_header else [str(i + 1) for i in range(len(first))]
  _check_names(names, has_header, delimiter, where)
  rows = [] if has_header else [first]
  for line, row in lines:
    if len(row) != len(names):
      raise DataError(f"{where}, line {line}: {len(row)} cells, but line {first_line} has {len(names)}; every row "
                      "needs one for each column.")
    rows.append(row)
  if not rows:
    raise DataError(f"{where} has no rows; it needs some beside the names of the columns.")
  return {name: np.array(column, dtype=object) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _text(path: pathlib.Path, where: str) -> str:
  if not path.is_file():
    raise DataError(f"{where} {why_no_file(path)}; name it by data.path, or after a colon.")
  try:
    return path.read_bytes().decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise DataError(f"{where} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}; save it as "
                    "UTF-8.") from error


def _rows(text: str, delimiter: str, kind: str, where: str) -> Iterator[tuple[int, list[str]]]:
  """Yield each row with the number of its first line."""
  quoting = csv.QUOTE_NONE if kind == "tsv" else csv.QUOTE_MINIMAL
  reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
  line = 1
  try:
    for row in reader:
      if row:
        yield line, [cell.strip() for cell in row]
      line = reader.line_num + 1
  except csv.Error as error:
    raise DataError(f"{where}, line {line}: {error}.") from error


def _check_names(names: list[str], has_header: bool, delimiter: str, where: str) -> None:
  if not names:
    raise DataError(f"{where} is empty; it needs a line of names of columns, and rows.")
  if len(names) == 1 and (other := next((each for each in (";", "\t", ",") if each in names[0]), None)):
    raise DataError(f"{where}: line 1 is one cell, {names[0][:40]!r}; if cells are divided by {other!r}, say so by "
                    f"#delimiter={'tab' if other == chr(9) else other}.")
  if has_header and all(table.is_number(name) for name in names):
    raise DataError(f"{where}: line 1 holds numbers, {', '.join(names[:4])}, where names of columns are expected; add "
                    "them, or say #header=no.")
  for i, name in enumerate(names):
    if not name:
      raise DataError(f"{where}: column {i + 1} has no name; give it one (a column that pandas wrote for its index is "
                      "left out by to_csv(index=False)).")
    if names.index(name) < i:
      raise DataError(f"{where}: two columns are called {name!r}; every column needs a name of its own.")
