"""Archives of arrays: `npz:<path>`, or `npz:<path>#fold=3`; the names that they may have are in arrays.py."""

import pathlib
import zipfile

import numpy as np

from gdm.data.archive import DAMAGE, PickledError, read_npz
from gdm.data.dataset import Dataset
from gdm.data.sources import mapped
from gdm.data.sources.arrays import from_arrays
from gdm.data.sources.request import Request
from gdm.errors import DataError
from gdm.paths import why_no_file


def load(request: Request) -> Dataset:
  """Return the set in the file. Raise DataError for a file, an array or a value that cannot be used, saying which."""
  path = pathlib.Path(request.argument)
  if mapped.is_mapped(path):
    return mapped.load(request)
  return from_arrays(read(path), request, f"npz file {path}")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Return all arrays of an npz file, never unpickling. Raise DataError where it is missing, damaged or holds
  objects."""
  if not path.is_file():
    raise DataError(f"npz file {str(path)!r} {why_no_file(path)}; name it by data.path or npz:<path>.")
  if not zipfile.is_zipfile(path):
    raise DataError(f"npz file {path} is truncated or no npz archive; write it by np.savez.")
  try:
    return read_npz(path)
  except PickledError as error:
    raise DataError(f"npz file {path}: array '{error}' holds pickled Python objects, which are never loaded; save "
                    "numbers only.") from error
  except DAMAGE as error:
    raise DataError(f"npz file {path} is damaged: {error}") from error
