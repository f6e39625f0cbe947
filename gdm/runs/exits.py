"""Exit codes of our processes, and calls at their end."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

EXIT_BUG = 1
EXIT_BAD_INPUT = 2
EXIT_RESUME_ME = 75  # EX_TEMPFAIL: the run was interrupted and saved; the same command again resumes it
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_at_end: list[Callable[[int, str], None]] = []


def at_end(call: Callable[[int, str], None]) -> None:
  """Have `call(code, message)` called when the process ends; the message is its error's, or ""."""
  _at_end.append(call)


def ended(code: int, message: str = "") -> None:
  """Call what `at_end` registered."""
  for call in _at_end:
    call(code, message)


def stop(line: str = "interrupted; the same command resumes from the last checkpoint, or starts over where there is "
                     "none.") -> NoReturn:
  """End the process here and now, with a line on stdout and the exit code 75.

  No exception is raised, since a caller's callback may swallow it. Python's normal shutdown is skipped: it would wait
  minutes for Orbax's threads where a save was cut. What is on disk survives a kill at any moment, so it survives this.
  """
  with contextlib.suppress(RuntimeError):  # the signal came in the middle of a print
    sys.stdout.flush()
  if sys.stderr.isatty():
    os.write(2, b"\n")  # after the progress bar
  os.write(1, line.encode() + b"\n")
  ended(EXIT_RESUME_ME, line)
  os._exit(EXIT_RESUME_ME)


def fail(line: str, code: int = EXIT_BAD_INPUT) -> NoReturn:
  """End the process here and now, from any thread, with an error in one line."""
  with contextlib.suppress(RuntimeError):
    sys.stdout.flush()
  os.write(2, f"error: {line}\n".encode())
  ended(code, line)
  os._exit(code)
