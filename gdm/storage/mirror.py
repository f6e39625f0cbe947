"""A folder of a bucket and its local copy: all work is done in the copy, and what counts is sent and read back.

A bucket knows no renaming and no appending. So a checkpoint is written locally, by Orbax as ever; then its files are
sent, each is read back from the bucket and its digest compared, and only then is the manifest sent, without which a
step does not count. Logs, pictures and reports are sent whole where they have changed.
"""

import concurrent.futures
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from gdm.errors import StorageError
from gdm.paths import local_path
from gdm.storage import staging
from gdm.storage.lease import FOLDER as LEASE
from gdm.storage.store import Store
from gdm.storage.urls import Url, is_url, parse_url

MANIFEST = "manifest.json"  # of a step; sent last
LAST = "finished.json"  # of a run; sent after all other files
_STEPS = ("checkpoints", "best")  # folders whose steps are sent and fetched one by one
_LEFT = (*_STEPS, "damaged", "tensorboard", "profile", LEASE)  # not fetched with the small files
LOG_SECONDS = 60.0
_AT_ONCE = 8  # objects that are sent or fetched at the same time
_logger = logging.getLogger("gdm")
_open: dict[Url, "Mirror"] = {}
_known: dict[Path, tuple[int, int]] = {}  # local file -> its time and size when the bucket had the same


class Mirror:
  """A URL and the local folder that stands for it.

  Attributes:
    url: the place in the bucket.
    path: the local folder, which does not exist before something was fetched.
    store: the objects.

  Every method that asks the bucket raises StorageError where it cannot be used.

  Example:
    mirror = Mirror.of(parse_url("gs://bucket/runs/a", "workdir"))
    mirror.path.mkdir(parents=True, exist_ok=True)
    (mirror.path / "note.txt").write_text("seen")
    mirror.push_files()
  """

  @classmethod
  def of(cls, url: Url) -> "Mirror":
    """Return the mirror of a URL, the same one for every caller in this process."""
    if url not in _open or _open[url].path != staging.place_of(url):
      _open[url] = cls(url)
    return _open[url]

  def __init__(self, url: Url):
    """Use `of`, so that two mirrors of one place do not overwrite each other's files."""
    self.url = url
    self.path = staging.place_of(url)
    self.store = Store(url)
    self._pushing = threading.RLock()
    self._pushed = time.monotonic()

  def names(self) -> list[str]:
    """Return the names of all objects but leases."""
    return [name for name in self.store.list() if not name.startswith(LEASE + "/")]

  def fetch_files(self) -> None:
    """Fetch the small files: all but checkpoints, events for TensorBoard and profiles."""
    self.fetch(name for name in self.store.list() if not set(PurePosixPath(name).parts[:-1]) & set(_LEFT))

  def steps(self, place: str) -> list[int]:
    """Return the steps below `place` that have their manifest, ascending."""
    parts = [PurePosixPath(name).parts for name in self.store.list(place)]
    return sorted(int(each[1]) for each in parts if len(each) == 3 and each[1].isdigit() and each[2] == MANIFEST)

  def fetch_step(self, place: str, step: int) -> None:
    """Fetch a step, as it is; whether it is whole, its manifest says."""
    self.fetch(self.store.list(f"{place}/{step}"))

  def fetch_run(self) -> None:
    """Fetch the small files and every step, for a run that goes on."""
    self.fetch_files()
    for place in _STEPS:
      for step in self.steps(place):
        self.fetch_step(place, step)

  def fetch_newest(self, place: str, is_good: Callable[[Path], bool]) -> int | None:
    """Fetch steps, the newest first, until one is good; return it, or None."""
    for step in reversed(self.steps(place)):
      self.fetch_step(place, step)
      if is_good(self.path / place / str(step)):
        return step
    return None

  def push_step(self, folder: Path) -> None:
    """Send a step that has its manifest, read it back, and then send the manifest.

    Raise StorageError where the bucket gives other bytes than were sent, or refuses for too long.
    """
    base = folder.relative_to(self.path).as_posix()
    digests = json.loads((folder / MANIFEST).read_text())
    self._delete_step(base)
    self.push_files()  # the rows of the log up to this step, without which it is not worth much
    wrong = self._send(folder, base, digests)
    if wrong:
      _logger.warning("%s/%s/%s is read back with other bytes than were sent; it is sent again.", self.url, base,
                      wrong[0])
      wrong = self._send(folder, base, digests)
    if wrong:
      raise StorageError(f"{self.url}/{base}/{wrong[0]} was written twice, and each time read back with other bytes; "
                         "what was saved before stays.")
    self.store.upload(folder / MANIFEST, f"{base}/{MANIFEST}")

  def _send(self, folder: Path, base: str, digests: Mapping[str, str]) -> list[str]:
    """Send a step's files and read them back; return the names of those that came back with other bytes."""
    _together(lambda name: self.store.upload(folder / name, f"{base}/{name}"), digests)
    found = _together(lambda name: self.store.digest(f"{base}/{name}", (folder / name).stat().st_size), digests)
    return [name for name, digest in zip(digests, found, strict=True) if digest != digests[name]]

  def keep_steps(self, place: str, steps: Collection[int]) -> None:
    """Delete every step below `place` but these, whole or not."""
    found = {PurePosixPath(name).parts[1] for name in self.store.list(place)}
    for name in sorted(found - {str(step) for step in steps}):
      self._delete_step(f"{place}/{name}")

  def push_files(self) -> None:
    """Send every file that has changed since it was sent or fetched, but for checkpoints."""
    with self._pushing:
      files = sorted((path for path in self.path.rglob("*") if path.is_file() and self._is_sent(path)),
                     key=lambda path: path.name == LAST)
      for path in files:
        name = path.relative_to(self.path).as_posix()
        try:
          state = _state(path)
        except FileNotFoundError:  # deleted since
          continue
        if state != _known.get(path):
          self.store.upload(path, name)
          _known[path] = state

  def push_logs(self) -> None:
    """Send what has changed, in the background and once in a minute, for those who watch a run."""
    if time.monotonic() - self._pushed < LOG_SECONDS:
      return
    self._pushed = time.monotonic()

    def push() -> None:
      with contextlib.suppress(StorageError):  # whose words are in the log; a checkpoint waits for it
        self.push_files()

    threading.Thread(target=push, daemon=True, name="logs to the bucket").start()

  def was_sent(self, name: str) -> bool:
    """Return whether the bucket has a file, as far as this process knows."""
    return self.path / name in _known

  def delete(self, name: str) -> None:
    """Delete a file here and there."""
    (self.path / name).unlink(missing_ok=True)
    _known.pop(self.path / name, None)
    self.store.delete([name])

  def _is_sent(self, path: Path) -> bool:
    parts = path.relative_to(self.path).parts
    return not {*parts[:-1]} & {*_STEPS, LEASE} and not any(part.startswith(".") for part in parts)

  def fetch(self, names: Iterable[str]) -> None:
    """Fetch objects; those that are gone by now are left out."""
    def fetch(name: str) -> None:
      path = self.path / name
      if self.store.download(name, path):
        _known[path] = _state(path)

    _together(fetch, list(names))

  def _delete_step(self, base: str) -> None:
    names = set(self.store.list(base))
    manifest = {f"{base}/{MANIFEST}"} & names
    self.store.delete(manifest)  # first: a kill among the rest must not leave half a step that counts
    _together(lambda name: self.store.delete([name]), names - manifest)


def mirror_of(path: str | os.PathLike, what: str) -> Mirror | None:
  """Return the mirror of a URL, None of a path of this machine.

  Example:
    mirror = mirror_of("gs://bucket/runs/a", "workdir")
    names = [] if mirror is None else mirror.names()
  """
  return Mirror.of(parse_url(path, what)) if is_url(path) else None


def local_copy(path: str | os.PathLike, what: str) -> Path:
  """Return a path of this machine for a path or URL, to read from and write to; what it has of a bucket is fetched.

  Of an object that is the object, of a folder all but checkpoints. What is then written at or below the path is sent by
  `push_all`.

  Args:
    path: as the user gave it.
    what: where it was given, for the error: a flag, a field, or a word such as "workdir".

  Raises:
    ConfigError: it is a URL of another kind, or no path of this machine.
    StorageError: its bucket cannot be used.

  Example:
    path = local_copy("gs://bucket/reports/likelihood_test.json", "argument")
  """
  if not is_url(path):
    return local_path(path, what)
  url = parse_url(path, what)
  if Store(url).is_object():
    mirror = Mirror.of(url.parent)
    mirror.fetch([url.name])
    return mirror.path / url.name
  mirror = Mirror.of(url)
  mirror.fetch_files()
  if url.key and not mirror.path.exists():  # nothing is there yet: a file or folder to be written
    del _open[url]
    mirror = Mirror.of(url.parent)
    mirror.path.mkdir(parents=True, exist_ok=True)
    return mirror.path / url.name
  return mirror.path


def local_data(path: str | os.PathLike, what: str) -> Path:
  """Return a path of this machine for a path or URL of data; all of a folder in a bucket is fetched.

  Args:
    path: as the user gave it.
    what: where it was given, for the error.

  Raises as `local_copy` does.

  Example:
    folder = local_data("gs://bucket/data/faces", "config.data.path")
  """
  place = local_copy(path, what)
  if is_url(path) and place.is_dir():
    mirror = Mirror.of(parse_url(path, what))
    mirror.fetch(name for name in mirror.store.list() if not (mirror.path / name).exists())
  return place


def push_all() -> None:
  """Send what this process has written in copies of buckets, but for checkpoints.

  Example:
    local_copy("gs://bucket/note.txt", "argument").write_text("seen")
    push_all()
  """
  for mirror in list(_open.values()):
    if mirror.path.exists():
      mirror.push_files()


def _state(path: Path) -> tuple[int, int]:
  stat = path.stat()
  return stat.st_mtime_ns, stat.st_size


def _together(call: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
  """Return the results of calls for all names, some at a time."""
  with concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "bucket") as pool:
    return list(pool.map(call, names))
