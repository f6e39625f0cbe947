"""Reading npz archives: never unpickling, every checksum verified."""

import io
import pathlib
import zipfile
import zlib

import numpy as np

# What a damaged archive can raise; a missing or unreadable file is an OSError.
DAMAGE = (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


class PickledError(ValueError):
  """An array of Python objects, which could only be loaded by running code from the file."""


def read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Return all arrays of the file. Raise PickledError for Python objects, and one of `DAMAGE` where it is damaged."""
  arrays = {}
  with zipfile.ZipFile(path) as archive:
    for member in archive.namelist():
      # np.load reads no further than an array's last byte, and so never comes to a compressed member's checksum
      file = io.BytesIO(archive.read(member))
      name = member.removesuffix(".npy")
      try:
        arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
      except ValueError as error:
        if "allow_pickle" in str(error):
          raise PickledError(name) from error
        raise ValueError(f"array {name!r}: {error}") from error
  return arrays
