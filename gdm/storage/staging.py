"""The local folder in which a process works on what belongs to buckets.

It lies in $GDM_STAGING_DIR, by default ~/.cache/gdm/staging, is this process's alone, and is deleted at its end; what a
killed process left is deleted by the next one. Nothing in it is of value: what counts is in the bucket.
"""

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from gdm.errors import StorageError
from gdm.storage.urls import Url

_LOCK = ".lock"
_made: list[Path] = []
_held: list[IO[str]] = []  # their locks, which last as long as the files are open


def place_of(url: Url) -> Path:
  """Return the local path that stands for a URL."""
  return _folder(os.getpid()) / url.scheme / url.bucket / url.key


def in_words(text: str) -> str:
  """Return a text with the URLs that local paths in it stand for.

  Example:
    path = local_copy("gs://bucket/runs/a", "workdir")
    in_words(f"{path} is empty.")  # gs://bucket/runs/a is empty.
  """
  for root in _made:
    for scheme in ("gs", "s3", "memory"):
      text = text.replace(f"{root}/{scheme}/", f"{scheme}://")
  return text


def clean() -> None:
  """Delete this process's folder.

  Example:
    local_copy("gs://bucket/note.txt", "argument").write_text("seen")
    push_all()
    clean()
  """
  while _made:
    shutil.rmtree(_made.pop(), ignore_errors=True)
    _held.pop().close()
  _folder.cache_clear()


@functools.cache
def _folder(pid: int) -> Path:
  """Return the folder of the process `pid`, which is this one; made at the first call."""
  home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gdm" / "staging"
  root = Path(os.environ.get("GDM_STAGING_DIR") or home).absolute()
  try:
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{pid}-", dir=root))
    _hold(folder / _LOCK)
  except OSError as error:
    raise StorageError(f"{root} cannot be written: {error.strerror}; name another folder by $GDM_STAGING_DIR, since "
                       "what belongs to a bucket is worked on in a local one.") from error
  _made.append(folder)
  atexit.register(lambda: clean() if os.getpid() == pid else None)
  return folder


def _hold(lock: Path) -> None:
  """Lock a file until the process ends."""
  file = lock.open("a")
  with contextlib.suppress(OSError):  # a file system without locks: nobody may sweep there
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  _held.append(file)


def _sweep(root: Path) -> None:
  """Delete the folders of processes that are gone."""
  for lock in root.glob(f"*/{_LOCK}"):
    with contextlib.suppress(OSError), lock.open("a") as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      shutil.rmtree(lock.parent, ignore_errors=True)
