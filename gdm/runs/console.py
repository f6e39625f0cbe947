"""What surrounds the work of a process that a user started: one-line errors, logs above the progress bar, its end."""

import contextlib
import errno
import io
import logging as python_logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import jax
from absl import logging
from tqdm import tqdm

from gdm.errors import UserError
from gdm.runs.exits import EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED, at_end, ended
from gdm.storage import clean, in_words, push_all

# What the machine refuses is the user's to mend: no space, no right to write, a limit on file sizes, a broken disk, a
# folder in the place of a file.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EISDIR,
            errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE, errno.ENOLCK, errno.EBUSY,
            errno.EMFILE, errno.ENFILE}


class _InWords(io.TextIOBase):
  """A stream in which local copies of what is in a bucket are named by their URLs."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def write(self, text: str, /) -> int:
    self._stream.write(in_words(text))
    return len(text)

  def flush(self) -> None:
    self._stream.flush()

  def isatty(self) -> bool:
    return self._stream.isatty()


class _TqdmHandler(python_logging.Handler):
  """Writes log lines above a progress bar instead of through it."""

  def emit(self, record: python_logging.LogRecord) -> None:
    text = in_words(self.format(record))
    if record.name == "absl" and (record.exc_info or ".orbax-checkpoint-tmp" in text):
      return  # orbax tells each of its threads' tracebacks, and then raises the error; a save under way is its affair
    tqdm.write(text, file=sys.stderr)


def guarded(call: Callable[[], int | None]) -> int:
  """Return the exit code of a call, None being 0; it is that of the whole process, to whose streams and logs it sees.

  A UserError, or an error of the machine, prints one line and ends the process with 2; Ctrl-C gives 130. Anything else
  is a bug, and raised.
  """
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(line_buffering=True)  # so that a log file shows each line when it is printed
  _route_logs()
  use_compilation_cache()
  if any("://" in argument for argument in sys.argv):
    sys.stdout = _InWords(sys.stdout)
  at_end(lambda code, message: clean())
  code, message = EXIT_BUG, ""
  try:
    code = call() or 0
    push_all()
  except UserError as error:
    code, message = print_error(error), str(error)
  except OSError as error:
    if error.errno not in _MACHINE:
      raise
    message = f"{error.filename or 'a file'} cannot be used: {error.strerror}."
    code = print_error(message)
  except KeyboardInterrupt:
    message = "interrupted."
    print(message, file=sys.stderr)
    code = EXIT_INTERRUPTED
  except Exception as error:
    message = f"{type(error).__name__}: {error}"
    raise
  finally:
    ended(code, message)
  if code == EXIT_BAD_INPUT:
    # Not by the way of all ends: threads of a save that the storage refused may never come back.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  return code


def print_error(message: object) -> int:
  """Print an error in one line, and return the exit code of bad input."""
  print(f"error: {in_words(' '.join(str(message).split()))}", file=sys.stderr)
  return EXIT_BAD_INPUT


def use_compilation_cache() -> None:
  """Keep compiled programs between processes, so that a second start takes seconds less."""
  # A kill or a full disk can leave part of an entry; JAX then compiles anew, and would say so at every start.
  warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    # JAX's own threshold, a second, keeps none of a small model's programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gdm" / "xla"
  with contextlib.suppress(OSError):  # without a place to write, JAX would warn at every compilation
    folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
      jax.config.update("jax_compilation_cache_dir", str(folder))


def _route_logs() -> None:
  """Our own messages and everybody's warnings go above the progress bar; orbax tells every move at INFO."""
  handler = _TqdmHandler()
  sys.unraisablehook = _tell_unraisable
  handler.setFormatter(python_logging.Formatter("%(levelname)s: %(message)s"))
  python_logging.getLogger().handlers = [handler]
  logging.set_verbosity(logging.WARNING)
  python_logging.getLogger().setLevel(python_logging.WARNING)
  logging.get_absl_logger().handlers = []
  logging.get_absl_logger().propagate = True
  python_logging.getLogger("gdm").setLevel(python_logging.INFO)


def _tell_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
  """Pass on what Python cannot raise, but the echo of a failed save: TensorStore calls back into a closed loop."""
  if not (isinstance(unraisable.exc_value, RuntimeError) and "Event loop is closed" in str(unraisable.exc_value)):
    sys.__unraisablehook__(unraisable)
