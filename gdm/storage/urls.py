"""URLs of buckets: which are known, and what they may hold."""

import os
import re
import unicodedata
from typing import NamedTuple

from gdm.errors import StorageError

# Scheme -> the extra that installs its file system. `memory` lives in this process alone, for tests.
SCHEMES = {"gs": "gs", "s3": "s3", "memory": ""}
_URL = re.compile(rf"({'|'.join(SCHEMES)}):/+")
# Taken for patterns by file systems and Orbax, or for the beginning of a query or of a generation.
_REFUSED = "[]*?#\\"


class Url(NamedTuple):
  """Where an object or a folder of objects is.

  Attributes:
    scheme: one of `SCHEMES`.
    bucket: the bucket's name.
    key: names below it, joined by "/"; "" is the whole bucket.
  """

  scheme: str
  bucket: str
  key: str

  def __str__(self) -> str:
    return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")

  @property
  def parent(self) -> "Url":
    """The folder that it lies in."""
    return self._replace(key=self.key.rpartition("/")[0])

  @property
  def name(self) -> str:
    """Its last name."""
    return self.key.rpartition("/")[2]


def is_url(path: str | os.PathLike) -> bool:
  """Return whether a path names a place in a bucket, of a scheme that is known.

  Example:
    is_url("gs://bucket/runs/a"), is_url("runs/a")  # True, False
  """
  return _URL.match(os.fspath(path)) is not None


def parse_url(path: str | os.PathLike, what: str) -> Url:
  """Return the parts of a URL.

  Args:
    path: as the user gave it; of a `Path`, which has lost one of the two slashes, too.
    what: where it was given, for the error.

  Raises:
    StorageError: it names no bucket, or has characters or parts that no place in one can have.

  Example:
    url = parse_url("gs://bucket/runs/a/", "workdir")
    url.scheme, url.bucket, url.key  # "gs", "bucket", "runs/a"
  """
  text = os.fspath(path)
  found = _URL.match(text)
  assert found is not None, f"{text} is no URL"
  bucket, _, key = text[found.end():].partition("/")
  if not bucket:
    raise StorageError(f"{what} is {text!r}, which names no bucket; write {found[1]}://BUCKET/FOLDER.")
  if odd := next((character for character in text
                  if character in _REFUSED or unicodedata.category(character) in ("Cc", "Cs")), None):
    raise StorageError(f"{what} is {text!r}, which has the character {odd!r}; name a place without any of "
                       f"{' '.join(_REFUSED)} and control characters.")
  parts = [part for part in key.split("/") if part]
  if odd := next((part for part in parts if part in (".", "..") or part.endswith(":")), None):
    raise StorageError(f"{what} is {text!r}, which has the part {odd!r}; name a place without it.")
  return Url(found[1], bucket, "/".join(parts))
