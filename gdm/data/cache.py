"""Decoded data kept between runs, so that only the first one waits for the decoding of images.

The cache lies in $GDM_CACHE_DIR, by default ~/.cache/gdm; set it to "" for none. A file is complete or absent (written
aside, then renamed), its checksums are verified on reading, and whatever goes wrong costs time, not correctness: the
data is then decoded again. It may be deleted at any time.
"""

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gdm.data.archive import DAMAGE, read_npz
from gdm.paths import local_path

Arrays = Mapping[str, np.ndarray]


def directory() -> pathlib.Path | None:
  """Return the cache's folder, or None where it is turned off."""
  place = os.environ.get("GDM_CACHE_DIR", "~/.cache/gdm")
  return local_path(place, "$GDM_CACHE_DIR") if place else None


def cached(key: str, make: Callable[[], Arrays]) -> Arrays:
  """Return the arrays kept under `key`, else those of `make()`, which are then kept.

  `key` must name all that `make` depends on; it becomes part of a file name.
  """
  folder = directory()
  if folder is None:
    return make()
  path = folder / f"{key}.npz"
  try:
    return read_npz(path)
  except DAMAGE:  # a missing file is one of these
    arrays = make()
  _write(path, arrays)
  return arrays


def _write(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
  """Write aside and renames; a folder that cannot be written or is full leaves no cache behind."""
  aside = None
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each process and thread; tempfile's files would be closed to others who share the cache.
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    with aside.open("wb") as file:
      np.savez(file, **arrays)
    os.replace(aside, path)
  except OSError:
    if aside is not None:
      with contextlib.suppress(OSError):
        aside.unlink(missing_ok=True)
