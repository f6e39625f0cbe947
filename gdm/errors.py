"""Errors that a user's input can cause: one message, no traceback.

Binaries catch `UserError` and print its message alone; anything else that escapes is a bug and keeps its traceback.
A message names the field, the value, and what would be right.
"""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
  """Base of all errors that a user's input, data or machine can cause."""


class ConfigError(UserError):
  """A config, flag or option that cannot be used."""


class SpecError(UserError):
  """A model was given data of another kind than it needs."""


class DataError(UserError):
  """Data that is missing, damaged, or not what its spec promises."""


class WorkdirError(UserError):
  """A workdir that cannot be used, or belongs to another run."""


class CheckpointError(UserError):
  """A checkpoint that is missing, damaged, or of another model."""


class StorageError(UserError):
  """A bucket that cannot be used, or a place in one that cannot be named."""


class NotFiniteError(UserError):
  """A loss, likelihood or parameter became NaN or infinite."""


def nearest(name: Any, known: Iterable[str]) -> str:
  """Return a sentence that names the known word nearest to `name`, or all known words when none is near."""
  known = sorted(known)
  close = difflib.get_close_matches(str(name), known, n=1)  # a config may hold anything
  return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}."
