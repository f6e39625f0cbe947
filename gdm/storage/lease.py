"""A lease: the right of one process to write in a place, where files cannot be locked.

The holder of lease n is whoever created the object `lease/n.json`, and renews it every few seconds; the highest number
counts. A lease is free when its holder gave it back, when its holder ran on this machine and is gone, or when it was
not renewed for `seconds` while somebody watched: two machines' clocks are not compared. Whoever takes a free lease n
creates n + 1, which of several processes one alone can where the store knows conditional writes; the others, and a
holder that slept for too long, find the higher number and stop. Where a store does not know them, the last to write
holds it, and the others find its name at their next renewal.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gdm.errors import StorageError, WorkdirError

FOLDER = "lease"
_logger = logging.getLogger("gdm")


@runtime_checkable
class Objects(Protocol):
  """What a lease needs of a store; see `gdm.storage.store.Store`."""

  def read(self, name: str) -> bytes | None: ...

  def write(self, name: str, data: bytes) -> None: ...

  def create(self, name: str, data: bytes) -> bool: ...

  def list(self, below: str = "") -> dict[str, int]: ...

  def delete(self, names: Iterable[str]) -> None: ...


class LocalObjects:
  """Files below a folder as objects; `create` relies on O_EXCL, which network file systems know where they know no
  locks.

  Example:
    objects = LocalObjects(Path("runs/a"))
    objects.create("note.json", b"{}")  # True; False were it there
    objects.read("note.json")
  """

  def __init__(self, folder: Path):
    self._folder = folder

  def read(self, name: str) -> bytes | None:
    try:
      return (self._folder / name).read_bytes()
    except FileNotFoundError:
      return None

  def write(self, name: str, data: bytes) -> None:
    path = self._folder / name
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    os.replace(partial, path)

  def create(self, name: str, data: bytes) -> bool:
    path = self._folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      with path.open("xb") as file:
        file.write(data)
    except FileExistsError:
      return False
    return True

  def list(self, below: str = "") -> dict[str, int]:
    return {str(path.relative_to(self._folder)): 0 for path in (self._folder / below).glob("*.json")}

  def delete(self, names: Iterable[str]) -> None:
    for name in names:
      (self._folder / name).unlink(missing_ok=True)

  def remove(self) -> None:
    """Delete the folders, where nothing is in them."""
    for folder in (self._folder / FOLDER, self._folder):
      with contextlib.suppress(OSError):
        folder.rmdir()


def lease_seconds() -> float:
  """Return for how long an unrenewed lease counts: $GDM_LEASE_SECONDS, by default 60."""
  text = os.environ.get("GDM_LEASE_SECONDS", "60")
  try:
    seconds = float(text)
  except ValueError:
    seconds = 0.0
  if not seconds > 0:
    raise StorageError(f"$GDM_LEASE_SECONDS is {text!r}; it must be a number of seconds above 0.")
  return seconds


class Lease:
  """A lease on a place, renewed in a thread of its own between `take` and `release`.

  Example:
    store = Store(parse_url("gs://bucket/run", "workdir"))
    lease = Lease(store, "workdir gs://bucket/run", lost=lambda line: stop(line))
    lease.take()
    try:
      ...  # call lease.require() before each write
    finally:
      lease.release()
  """

  def __init__(self, objects: Objects, what: str, lost: Callable[[str], object]):
    """Prepare it; nothing is written yet.

    Args:
      objects: of the place; changed without any guard.
      what: the place, as the subject of messages.
      lost: called with a message, in any thread, when another process has taken the lease over; it ends the process.
    """
    self._objects, self._what, self._lost = objects, what, lost
    self._seconds = lease_seconds()
    self._owner, self._number, self._count = uuid.uuid4().hex, 0, 0
    self._renewed = 0.0  # when it was last found to be ours
    self._ending = threading.Event()
    self._renewing = threading.RLock()
    self._thread = threading.Thread(target=self._renew_always, daemon=True, name="lease")

  def take(self) -> None:
    """Take it, after some seconds of watching where its holder may have died.

    Raises:
      WorkdirError: a living process holds it.
      StorageError: the place cannot be used.
    """
    newest = self._newest()
    if newest:
      self._wait_until_free(newest)
    self._number = newest + 1
    if not self._objects.create(self._name(self._number), self._record()) or self._newest() != self._number \
       or self._read(self._number).get("owner") != self._owner:
      raise WorkdirError(f"{self._what} was taken by another process at this moment; wait for it, or name another.")
    self._renewed = _now()
    self._objects.delete(self._name(number) for number in self._numbers() if number < self._number)
    self._thread.start()

  def require(self) -> None:
    """Return where it is surely ours, after looking if need be; else end the process by `lost`."""
    if _now() - self._renewed > self._seconds / 2:
      self._renew()

  def release(self) -> None:
    """Give it back; a failure to say so costs the next process some seconds."""
    self._ending.set()
    with self._renewing, contextlib.suppress(StorageError, OSError):
      if self._number and self._is_ours():
        self._objects.write(self._name(self._number), self._record(released=True))
    self._number = 0

  def forget(self) -> None:
    """Give it back, and leave no trace of it."""
    number = self._number
    self.release()
    if number:
      with contextlib.suppress(StorageError, OSError):
        self._objects.delete([self._name(number)])

  def _wait_until_free(self, number: int) -> None:
    """Return when lease `number` is free. Raise WorkdirError where its holder lives."""
    first = self._read(number)
    if first.get("released") or _is_gone(first):
      return
    who = f"process {first.get('pid', '?')} on {first.get('host', '?')}"
    print(f"{self._what} is leased to {who}; watching for {self._seconds:g} s whether that renews it.", flush=True)
    end = _now() + self._seconds
    while _now() < end:
      time.sleep(min(1.0, self._seconds / 20))
      now = self._read(number)
      if now.get("released") or _is_gone(now):
        return
      if now != first or self._newest() != number:
        raise WorkdirError(f"{self._what} is in use by another process, {who}; wait for it, or name another.")
    _logger.warning("%s: the lease of %s expired, it is taken over.", self._what, who)

  def _renew_always(self) -> None:
    while not self._ending.wait(self._seconds / 6):
      with contextlib.suppress(StorageError, OSError):  # the bucket refuses: others cannot take the lease either
        self._renew()

  def _renew(self) -> None:
    with self._renewing:
      if self._ending.is_set() or not self._number:
        return
      if not self._is_ours():
        self._number = 0
        self._ending.set()
        self._lost(f"{self._what} was taken over by another process, since this one did not renew its lease for "
                   f"{self._seconds:g} s; it goes on there, and this one stops without writing.")
        return
      self._count += 1
      self._objects.write(self._name(self._number), self._record())
      self._renewed = _now()

  def _is_ours(self) -> bool:
    return self._newest() == self._number and self._read(self._number).get("owner") == self._owner

  def _numbers(self) -> list[int]:
    names = [name.rpartition("/")[2].removesuffix(".json") for name in self._objects.list(FOLDER)]
    return sorted(int(name) for name in names if name.isdigit())

  def _newest(self) -> int:
    return max(self._numbers(), default=0)

  def _read(self, number: int) -> dict[str, Any]:
    data = self._objects.read(self._name(number))
    try:
      record = json.loads(data or b"{}")
    except ValueError:  # in the middle of being written
      return {}
    return record if isinstance(record, dict) else {}

  def _record(self, released: bool = False) -> bytes:
    return json.dumps({"owner": self._owner, "host": socket.gethostname(), "machine": _machine(), "pid": os.getpid(),
                       "started": _started(os.getpid()), "count": self._count, "seconds": self._seconds,
                       "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "released": released}).encode()

  @staticmethod
  def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _now() -> float:
  """Return seconds of a clock that goes on while the machine sleeps."""
  return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _machine() -> str:
  """Return a name of this machine since its start and of its process numbers, "" where it has none."""
  try:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + "/" + os.readlink("/proc/self/ns/pid")
  except OSError:
    return ""


def _started(pid: int) -> str:
  """Return when a process of this machine started, "" where there is none or that is not known; a zombie is none."""
  try:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
  except OSError:
    return ""
  return "" if fields[0] in "ZX" else fields[19]


def _is_gone(record: dict[str, Any]) -> bool:
  """Return whether a lease's holder was a process of this machine that has ended."""
  same = bool(record.get("machine")) and record.get("machine") == _machine()
  return same and _started(int(record.get("pid", 0))) != record.get("started")
