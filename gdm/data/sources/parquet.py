"""Tables in Parquet files: `parquet:<path>`, with the options of table.py; needs the extra "parquet".

Numbers, truth values and text are read. Other columns (lists, dates, bytes) are an error, unless `columns` leaves them
out.
"""

import pathlib
from typing import Any

import numpy as np

from gdm.data.dataset import Dataset
from gdm.data.sources import table
from gdm.data.sources.request import Request
from gdm.errors import DataError
from gdm.extras import load_extra
from gdm.paths import why_no_file

OPTIONS = table.OPTIONS


def load(request: Request) -> Dataset:
  """Return the set in the file. Raise DataError where it is missing or damaged, and what `table.from_tables` raises."""
  load_extra("pyarrow", "parquet", f"data.name {request.kind}:{request.argument}")
  parquet: Any = load_extra("pyarrow.parquet", "parquet", "data.name parquet")
  path = pathlib.Path(request.argument)
  where = f"Parquet file {path}"
  if not path.is_file():
    raise DataError(f"{where} {why_no_file(path)}; name it by data.path or parquet:<path>.")
  try:
    found = parquet.ParquetFile(path).read()
  except (OSError, ValueError) as error:  # Arrow's own errors are of these
    raise DataError(f"{where} cannot be read: {error}; it is damaged, or no Parquet file.") from error
  return table.from_tables({"train": arrow_columns(found, request, where)}, request, where)


def arrow_columns(found: Any, request: Request, where: str) -> dict[str, np.ndarray]:
  """Return columns of an Arrow table as `table.from_tables` takes them: missing numbers are NaN, missing text is ""."""
  types: Any = load_extra("pyarrow.types", "parquet", where)
  columns = {}
  for name in found.column_names:
    column = found[name]
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
      columns[name] = _numbers(column.to_pylist()) if column.null_count or types.is_decimal(kind) else column.to_numpy()
    elif types.is_string(kind) or types.is_large_string(kind):
      columns[name] = np.array(["" if value is None else value for value in column.to_pylist()], dtype=object)
    elif table.is_asked(name, request):
      raise DataError(f"{where}: column {name!r} holds {kind}; numbers and text are read: choose others by #columns=.")
  return columns


def _numbers(values: list[Any]) -> np.ndarray:
  return np.array([np.nan if value is None else float(value) for value in values])
