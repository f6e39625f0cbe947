"""Paths that can be used, and files that are written whole: local ones, and for checkpoints what Orbax takes literally.

Orbax looks for its files by patterns that begin with the folder's own path, so that brackets, stars, question marks and
backslashes in it are taken for patterns: a checkpoint is then written and sealed, but cannot be read back.
"""

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gdm.errors import ConfigError, WorkdirError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_PATTERN = "[]*?\\"
_BUCKETS = ("gs", "s3")


def local_path(path: str | os.PathLike, what: str) -> Path:
  """Return a path with a leading `~` as the home folder.

  Args:
    path: as the user gave it.
    what: where it was given, for the error: a flag, a field, or a word such as "workdir".

  Raises:
    ConfigError: it is a URL, as gs://bucket/run, or no path of this machine.
  """
  text = os.fspath(path)
  if fault := _fault_of_text(text):
    raise ConfigError(f"{what} is {text!r}, {fault}")
  try:
    return Path(text).expanduser()
  except RuntimeError as error:  # ~name of nobody
    raise ConfigError(f"{what} is {text!r}, but there is no home folder {text.partition('/')[0]}; write the path "
                      "out.") from error


def why_no_file(path: Path) -> str:
  """Return why a path is no file, for a message: it is a folder, or does not exist.

  Example: `raise DataError(f"{path} {why_no_file(path)}; name a file.")`.
  """
  return "is a folder, where a file is wanted" if path.is_dir() else "does not exist"


def is_local(path: str) -> bool:
  """Return whether `local_path` takes a path."""
  return _fault_of_text(path) is None


def fault_of_folder(folder: str | os.PathLike) -> str | None:
  """Return why checkpoints cannot lie below a folder, as the end of a sentence about its absolute path; else None."""
  text = os.path.abspath(os.fspath(folder))
  if found := next((character for character in text if character in _PATTERN), None):
    return (f"whose path has {found!r}: checkpoints below it could not be read back, since {' '.join(_PATTERN)} are "
            "taken for patterns; name a folder without them.")
  if found := next((part for part in text.split("/") if part.endswith(":")), None):
    return f"whose path has a folder {found!r}, which is taken for the beginning of a URL; name another folder."
  return _fault_of_text(text)


def write_whole(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> None:
  """Write a file by `write(file)` so that it is there whole or not at all, with the permissions that the umask leaves.

  Raise WorkdirError where it cannot be written.
  """
  path = Path(path)
  partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    with partial.open("wb") as file:
      write(file)
    os.replace(partial, path)
  except OSError as error:
    with contextlib.suppress(OSError):  # it may be the place itself that is none
      partial.unlink()
    raise WorkdirError(f"{path} cannot be written: {error.strerror}.") from error


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
  """Write arrays, by name, as a compressed .npz file, whole or not at all. Raise WorkdirError as `write_whole`."""
  write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))


def _fault_of_text(text: str) -> str | None:
  if found := _SCHEME.match(text):
    if found[1] in _BUCKETS:  # elsewhere they are known: gdm/storage
      return f"but it cannot lie at {found[1]}://; give a path of this machine, that of a mounted bucket say."
    return (f"but places behind {found[1]}:// are not supported; give a path of this machine, or one in a bucket at "
            "gs:// or s3://.")
  if found := next((character for character in text if unicodedata.category(character) in ("Cc", "Cs")), None):
    return f"which has the character {found!r}; name a path without it."
  return None
