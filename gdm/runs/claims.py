"""Claims of a workdir for one training process: by a lock on a file, or by a lease where there are no locks."""

import contextlib
import errno
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from gdm.errors import StorageError, WorkdirError
from gdm.runs import exits
from gdm.storage import Lease, LocalObjects, Mirror

LOCK = ".lock"
LEASES = ".lease"  # folder of a lease beside files
CONFIG = "config.json"  # without it the workdir belongs to no run yet
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # of Lustre or NFS without its lock service
_logger = logging.getLogger("gdm")  # whose messages the binaries show


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[None]:
  """Make a folder and lock it; one that has no config at the end is left as it was.

  Raise WorkdirError where it is not writable or in use.
  """
  made = not path.exists()
  lock_file = path / LOCK
  try:
    path.mkdir(parents=True, exist_ok=True)
    lock = lock_file.open("a")
  except OSError as error:
    raise WorkdirError(f"workdir {path} cannot be written: {error.strerror}; name another folder.") from error
  with contextlib.ExitStack() as stack:
    stack.enter_context(lock)
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise WorkdirError(f"workdir {path} is in use by another process; wait for it, or name another "
                         "folder.") from error
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise WorkdirError(f"workdir {path} cannot be locked: {error.strerror}; name another folder.") from error
      _logger.warning("workdir %s lies where files cannot be locked (%s); a lease is taken in its place.", path,
                      error.strerror)
      stack.enter_context(_leased_folder(path))
    try:
      yield
    finally:
      if not (path / CONFIG).exists():  # nothing came of it: leave no trace
        lock_file.unlink(missing_ok=True)
        stack.close()
        if made:
          with contextlib.suppress(OSError):
            path.rmdir()


@contextlib.contextmanager
def _leased_folder(path: Path) -> Iterator[None]:
  objects = LocalObjects(path / LEASES)
  lease = Lease(objects, f"workdir {path}", exits.fail)
  lease.take()
  try:
    yield
  finally:
    if (path / CONFIG).exists():
      lease.release()
    else:
      lease.forget()
      objects.remove()


@contextlib.contextmanager
def leased_bucket(mirror: Mirror) -> Iterator[None]:
  """Take the lease of a workdir in a bucket and fetch what is there; at the end, send what has changed.

  Raises:
    WorkdirError: a living process holds the lease, or the place holds something else than a run.
    StorageError: the bucket cannot be used.
  """
  names = mirror.names()
  if names and CONFIG not in names:
    shown = ", ".join(sorted({name.partition("/")[0] for name in names})[:3])
    raise WorkdirError(f"workdir {mirror.url} holds {shown} but no {CONFIG}; name an empty folder or one of gdm's.")
  lease = Lease(mirror.store.without_guard(), f"workdir {mirror.url}", exits.fail)
  lease.take()
  mirror.store.guard = lease.require
  exits.at_end(lambda code, message: lease.release())  # also where a signal ends it at once
  try:
    mirror.fetch_run()
    yield
    mirror.push_files()
  except Exception as error:
    if not isinstance(error, StorageError):
      with contextlib.suppress(StorageError):  # logs up to what went wrong
        mirror.push_files()
    raise
  finally:
    if mirror.was_sent(CONFIG):
      lease.release()
    else:
      lease.forget()
