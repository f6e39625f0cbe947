"""One array: `npy:<path>`, [N, ...], a row per example, split by the rule of gdm/data/partition.py."""

import pathlib

import numpy as np

from gdm.data.dataset import Dataset
from gdm.data.sources import mapped
from gdm.data.sources.arrays import from_arrays
from gdm.data.sources.request import Request
from gdm.errors import DataError
from gdm.paths import why_no_file


def load(request: Request) -> Dataset:
  """Return the set in the file, never unpickling. Raise DataError where it is missing, damaged or holds objects."""
  path = pathlib.Path(request.argument)
  if not path.is_file():
    raise DataError(f"npy file {str(path)!r} {why_no_file(path)}; name it by data.path or npy:<path>.")
  if mapped.is_mapped(path):
    return mapped.load(request)
  try:
    with path.open("rb") as file:
      x = np.lib.format.read_array(file, allow_pickle=False)
  except (ValueError, EOFError, OSError) as error:
    right = "save numbers only" if "allow_pickle" in str(error) else "write it by np.save"
    raise DataError(f"npy file {path} cannot be read: {error}; {right}.") from error
  return from_arrays({"x": x}, request, f"npy file {path}")
