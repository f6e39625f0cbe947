"""Objects below a URL: written, read, listed and deleted, with patience for a bucket that refuses for a while."""

import concurrent.futures
import contextlib
import copy
import hashlib
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from gdm.errors import ConfigError, StorageError
from gdm.extras import load_extra
from gdm.storage.urls import SCHEMES, Url

T = TypeVar("T")
_logger = logging.getLogger("gdm")
FIRST_SECONDS = 20.0  # within which a bucket must give its first answer: a start says soon that it cannot work
_CHUNK = 1 << 22
_UNKNOWN_CALLER = ("credential", "401", "Anonymous caller", "InvalidAccessKeyId", "login")
_LOGIN = {"gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
          "s3": "run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "memory": ""}


def patience() -> float:
  """Return the seconds for which a bucket that worked may refuse: $GDM_STORAGE_SECONDS, by default 600."""
  text = os.environ.get("GDM_STORAGE_SECONDS", "600")
  try:
    return float(text)
  except ValueError:
    raise StorageError(f"$GDM_STORAGE_SECONDS is {text!r}; it must be a number of seconds.") from None


class Store:
  """The objects below a URL, by their names below it.

  The first call must succeed within `FIRST_SECONDS`, and a missing bucket, missing rights or missing credentials are an
  error at once. Whatever fails later is tried again for `patience()` seconds.

  Every method raises StorageError where the bucket cannot be used.

  Example:
    store = Store(parse_url("gs://bucket/runs/a", "workdir"))
    store.write("config.json", b"{}")
    store.read("config.json")
  """

  def __init__(self, url: Url, guard: Callable[[], object] = lambda: None):
    """Open it; nothing is asked of the bucket yet.

    Args:
      url: the folder.
      guard: called before anything is changed; it raises, or ends the process, where that must not be.
    """
    self.url, self.guard = url, guard
    self._system = _file_system(url)
    self._root = f"{url.bucket}/{url.key}".rstrip("/") + "/"
    self._answered = False

  def without_guard(self) -> "Store":
    """Return the same objects, which may be changed at any time."""
    other = copy.copy(self)
    other.guard = lambda: None
    return other

  def read(self, name: str) -> bytes | None:
    """Return an object's content, None where it does not exist."""
    return self._ask(lambda: self._system.cat_file(self._root + name), missing=None)

  def write(self, name: str, data: bytes) -> None:
    """Write an object, whole or not at all."""
    self.guard()
    self._ask(lambda: self._system.pipe_file(self._root + name, data))

  def create(self, name: str, data: bytes) -> bool:
    """Write an object if it does not exist, and return whether it did not; of several callers one alone gets True,
    where the store knows conditional writes."""
    self.guard()
    try:
      self._ask(lambda: self._system.pipe_file(self._root + name, data, mode="create"))
    except FileExistsError:
      return False
    return True

  def list(self, below: str = "") -> dict[str, int]:
    """Return the objects' names, below a folder if given, and sizes in bytes."""
    def found() -> dict[str, int]:
      place = (self._root + below).rstrip("/")
      self._system.invalidate_cache()
      details = self._system.find(place, detail=True)
      start = self._root + (below and f"{below}/")
      return {path.lstrip("/").removeprefix(self._root): int(each["size"]) for path, each in details.items()
              if path.lstrip("/").startswith(start)}

    return self._ask(found)

  def is_object(self) -> bool:
    """Return whether the URL itself is an object, not a folder of them."""
    return self._ask(lambda: bool(self.url.key) and self._system.isfile(self._root.rstrip("/")))

  def delete(self, names: Iterable[str]) -> None:
    """Delete objects; those that do not exist are none the less deleted."""
    for name in names:
      self.guard()
      with contextlib.suppress(FileNotFoundError):
        self._ask(lambda name=name: self._system.rm_file(self._root + name), missing=None)

  def upload(self, path: Path, name: str) -> None:
    """Write a file's content to an object."""
    self.guard()
    if path.stat().st_size < _CHUNK:
      self.write(name, path.read_bytes())
    else:
      self._ask(lambda: self._system.put_file(str(path), self._root + name))

  def download(self, name: str, path: Path) -> bool:
    """Write an object's content to a file, whole or not at all; return whether it exists."""
    partial = path.with_name(f".{path.name}.{threading.get_ident()}.partial")

    def fetch() -> bool:
      path.parent.mkdir(parents=True, exist_ok=True)
      self._system.get_file((self._root + name).rstrip("/"), str(partial))
      os.replace(partial, path)
      return True

    try:
      return self._ask(fetch, missing=False)
    finally:
      partial.unlink(missing_ok=True)

  def digest(self, name: str, size: int = _CHUNK) -> str | None:
    """Return the sha256 of an object's content as the bucket now gives it, None where it does not exist.

    One of `size` bytes that is small is read at once, else piece by piece.
    """
    def hashed() -> str:
      if size < _CHUNK:
        return hashlib.sha256(self._system.cat_file(self._root + name)).hexdigest()
      digest = hashlib.sha256()
      with self._system.open(self._root + name, "rb", block_size=_CHUNK, cache_type="readahead") as file:
        while data := file.read(_CHUNK):
          digest.update(data)
      return digest.hexdigest()

    return self._ask(hashed, missing=None)

  def _ask(self, call: Callable[[], T], **if_missing: Any) -> T:
    """Return the answer of the bucket, with patience; `missing` is the answer where the object does not exist."""
    start, wait, told = time.monotonic(), 0.5, False
    while True:
      limit = patience() if self._answered else FIRST_SECONDS
      try:
        answer = call() if self._answered else _within(FIRST_SECONDS, call)
        self._answered = True
        if told:
          _logger.info("%s can be used again.", self.url)
        return answer
      except FileExistsError:
        self._answered = True
        raise
      except FileNotFoundError as error:
        if "missing" in if_missing:
          return if_missing["missing"]
        raise StorageError(f"{self.url} cannot be used: there is no bucket {self.url.bucket!r}.") from error
      except (MemoryError, AssertionError, TypeError, AttributeError):
        raise
      except Exception as error:  # each library has classes of its own
        reason, lasting = _reason(error, self.url)
        if time.monotonic() + wait > start + limit or (lasting and not self._answered):
          after = f", for {limit:g} s" if self._answered else ""
          raise StorageError(f"{self.url} cannot be used{after}: {reason}.") from error
        if self._answered and not told:
          told = True
          _logger.warning("%s cannot be used (%s); it is tried again for %g s.", self.url, reason, limit)
      time.sleep(wait)
      wait = min(2 * wait, 30.0)


def _file_system(url: Url) -> Any:
  """Return the file system of a scheme. Raise ConfigError where its package is missing."""
  if url.scheme == "memory":
    return importlib.import_module("fsspec").filesystem("memory")
  what, extra = f"{url.scheme}://", SCHEMES[url.scheme]
  options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
  if url.scheme == "s3":
    module = load_extra("s3fs", extra, what)
    # Amazon's own defaults wait for a minute for each of five connections.
    limits = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}
    return module.S3FileSystem(config_kwargs=limits, **options)
  module = load_extra("gcsfs.core", extra, what)
  logging.getLogger("gcsfs").setLevel(logging.CRITICAL + 1)  # it tells tracebacks, and then raises the error
  if os.environ.get("STORAGE_EMULATOR_HOST"):
    options["token"] = "anon"
  # Opened when first used, since it looks for credentials at once, perhaps over the network.
  return _Lazy(lambda: module.GCSFileSystem(**options))


class _Lazy:
  """An object that is made when it is first used."""

  def __init__(self, make: Callable[[], Any]):
    self._make, self._made, self._making = make, None, threading.Lock()

  def __getattr__(self, name: str) -> Any:
    with self._making:
      self._made = self._made or self._make()
    return getattr(self._made, name)


def _within(seconds: float, call: Callable[[], T]) -> T:
  """Return what a call returns; raise TimeoutError where that takes longer."""
  result: concurrent.futures.Future[T] = concurrent.futures.Future()

  def run() -> None:
    try:
      result.set_result(call())
    except BaseException as error:
      result.set_exception(error)

  threading.Thread(target=run, daemon=True, name="first answer").start()
  try:
    return result.result(seconds)
  except concurrent.futures.TimeoutError as error:
    if result.done():
      raise
    raise TimeoutError(f"it gave no answer within {seconds:g} s") from error


def _reason(error: Exception, url: Url) -> tuple[str, bool]:
  """Return why a bucket does not work, in words, and whether that is known to last."""
  if isinstance(error, (ConfigError, StorageError)):
    raise error
  text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
  if isinstance(error, TimeoutError):
    return text, True
  if any(mark.lower() in f"{type(error).__name__} {text} {getattr(error, 'code', '')}".lower()
         for mark in _UNKNOWN_CALLER):
    return f"no valid credentials were found ({text}); {_LOGIN[url.scheme]}", True
  return text, isinstance(error, PermissionError) or getattr(error, "code", None) == 403
