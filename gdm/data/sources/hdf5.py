"""Arrays of HDF5 files: `hdf5:<path>#key=x&label=y`, split by the rule of gdm/data/partition.py.

It needs the extra "hdf5". Options:

  key=x          the array of examples, [N, ...], by its path in the file; may be left out where the file has one array,
                 or arrays of the names that npz files have
  label=y        the array of labels
  layout, valid, test, split    as of npz
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from gdm.data import partition
from gdm.data.dataset import Dataset
from gdm.data.sources.arrays import from_arrays
from gdm.data.sources.request import Request
from gdm.errors import ConfigError, DataError, nearest
from gdm.extras import load_extra
from gdm.paths import why_no_file

OPTIONS = ("key", "label", "layout", *partition.OPTIONS)
_OURS = ("train", "x", "x_train")  # names by which a file is known to be laid out as an npz file


def load(request: Request) -> Dataset:
  """Return the set in the file. Raise DataError where it is missing or damaged, ConfigError for a key that it lacks."""
  h5py: Any = load_extra("h5py", "hdf5", f"data.name {request.kind}:{request.argument}")
  path = pathlib.Path(request.argument)
  where = f"HDF5 file {path}"
  if not path.is_file():
    raise DataError(f"{where} {why_no_file(path)}; name it by data.path or hdf5:<path>.")
  try:
    with h5py.File(path, "r") as file:
      found: dict[str, Any] = {}
      file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
      arrays = {ours: np.asarray(found[theirs]) for ours, theirs in _keys(found, request, where).items()}
  except (OSError, RuntimeError) as error:
    raise DataError(f"{where} cannot be read: {error}; it is damaged, or no HDF5 file.") from error
  # Labels have been found by their key, which may be any array's.
  rest = {name: value for name, value in request.options.items() if name != "label"}
  return from_arrays(arrays, dataclasses.replace(request, options=rest), where)


def _keys(found: dict[str, Any], request: Request, where: str) -> dict[str, str]:
  """Return the arrays to read, by the names of arrays.py."""
  there = ", ".join(f"{name} {item.shape}" for name, item in sorted(found.items())) or "none"
  keys = {"x": request.options.get("key"), "label": request.options.get("label")}
  for key in (key for key in keys.values() if key is not None and key.strip("/") not in found):
    raise ConfigError(f"data.name: {where} has no array {key!r}; {nearest(key, found) if found else ''} Its arrays: "
                      f"{there}.")
  chosen = {ours: key.strip("/") for ours, key in keys.items() if key is not None}
  if "x" in chosen:
    return chosen
  if any(name in found for name in _OURS):
    return {name: name for name in found if "/" not in name} | chosen
  others = [name for name in found if name not in chosen.values()]
  if len(others) != 1:
    raise ConfigError(f"data.name: {where} has several arrays, or none; say which holds the examples by #key=. Its "
                      f"arrays: {there}.")
  return {"x": others[0], **chosen}
