"""Folders of tokens that `gdm.data.preparation` wrote: a text of any size, read by position.

  manifest.json       what the folder is, written last: without it the folder is unfinished
  train-00000.tokens  the ids of a split one after the other, in shards: raw little-endian uint8, uint16 or uint32
  train.ends          raw little-endian uint64: how many tokens of the split come up to the end of each document

Tokens are read where they are needed (`os.pread`) and never mapped: pages of a mapped file count as memory of the
process, and a file that is cut short while it is mapped kills the process by SIGBUS.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from gdm.data.tokens import Tokenizer
from gdm.errors import DataError

MANIFEST = "manifest.json"
FORMAT = 1  # of the folder


@dataclasses.dataclass(frozen=True)
class TokenSplit:
  """A split of the folder.

  Attributes:
    tokens: how many tokens it has.
    documents: how many documents these make, of which no window reaches over the end.
    shards: name and number of tokens of each file, in order.
    digests: sha256 of each file, that of the ends last.
    units: what likelihood is per; see `gdm.data.dataset.Dataset.units`.
  """

  tokens: int
  documents: int
  shards: tuple[tuple[str, int], ...]
  digests: tuple[str, ...]
  units: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class TokenFolder:
  """What the manifest says.

  Attributes:
    name: of the text.
    shown: the options that it was prepared with, as they follow a name: "" or "#tokens=words".
    tokens, unit: those options, as in gdm/data/sources/passages.py.
    dtype: of an id in the files, as "<u2".
    tokenizer: turns text into ids and back.
    splits: "train" and "valid".
    plan: digest of the source and of the options.
  """

  name: str
  shown: str
  tokens: str
  unit: str
  dtype: str
  tokenizer: Tokenizer
  splits: Mapping[str, TokenSplit]
  plan: str

  def to_json(self) -> dict[str, Any]:
    """Return the folder as strings, numbers and lists, with a digest of them."""
    record = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    record |= {"format": FORMAT, "tokenizer": self.tokenizer.to_json(),
               "splits": {name: dataclasses.asdict(split) for name, split in self.splits.items()}}
    return {**record, "digest": _digest(record)}


def is_prepared(path: str | Path) -> bool:
  """Return whether a path is a folder of tokens, finished."""
  return (Path(path) / MANIFEST).is_file()


def read_manifest(folder: Path) -> TokenFolder:
  """Return what a folder says it is, all of whose files are as long as they should be.

  Raise DataError where the folder is missing, unfinished or of another format, or a file is damaged or cut short.
  """
  path = folder / MANIFEST
  if not path.is_file():
    why = "is not finished: go on with it" if folder.is_dir() else "does not exist: make it"
    raise DataError(f"folder of tokens {str(folder)!r} {why} by python -m experiments.prepare text:<path> "
                    "--out=<folder>.")
  try:
    record = json.loads(path.read_bytes())
    digest, number = record.pop("digest"), record.pop("format")
    if number != FORMAT:
      raise DataError(f"{path} is of format {number!r}, but this version reads {FORMAT}; prepare the text again.")
    if digest != _digest({**record, "format": number}):
      raise ValueError("its digest is another")
    splits = {name: TokenSplit(**{**split, "shards": tuple((file, num) for file, num in split["shards"]),
                                  "digests": tuple(split["digests"])}) for name, split in record["splits"].items()}
    found = TokenFolder(**{**record, "splits": splits, "tokenizer": Tokenizer.from_json(record["tokenizer"])})
  except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
    raise DataError(f"{path} is damaged: {error}; prepare the text again, in another folder.") from error
  itemsize = np.dtype(found.dtype).itemsize
  for name, split in found.splits.items():
    for file, num in split.shards:
      _require_size(folder / file, num * itemsize)
    _require_size(folder / f"{name}.ends", split.documents * 8)
  return found


def verify(folder: Path) -> int:
  """Read all tokens of a folder and compare their digests; return how many bytes. Raise DataError for a damaged file.
  """
  found, total = read_manifest(folder), 0
  for name, split in found.splits.items():
    for file, digest in zip([*(file for file, _ in split.shards), f"{name}.ends"], split.digests, strict=True):
      with (folder / file).open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != digest:
          raise DataError(f"token file {folder / file} is damaged: its sha256 is not the one of {MANIFEST}; prepare "
                          "the text again, in another folder.")
        total += opened.tell()
  return total


class TokenReader:
  """Tokens of a split, read by position; safe to call from several threads.

  Args:
    folder: where its files lie.
    found: what the manifest says.
    split: name of the split.

  Example: `TokenReader(folder, read_manifest(folder), "train").read(1000, 64)`.
  """

  def __init__(self, folder: Path, found: TokenFolder, split: str):
    shards = found.splits[split].shards
    self._paths: Sequence[Path] = [folder / file for file, _ in shards]
    self._ends = np.cumsum([num for _, num in shards])
    self._dtype = np.dtype(found.dtype)
    self._files: dict[int, int] = {}

  def read(self, start: int, num: int) -> Integer[np.ndarray, " {num}"]:
    """Return the tokens [start, start + num). Raise DataError where a file was cut short meanwhile."""
    out, done = np.empty(num, self._dtype), 0
    shard = int(np.searchsorted(self._ends, start, side="right"))
    while done < num:
      first = start + done - (int(self._ends[shard - 1]) if shard else 0)
      count = min(num - done, int(self._ends[shard]) - start - done)
      size = self._dtype.itemsize
      raw = os.pread(self._file(shard), count * size, first * size)
      if len(raw) != count * size:
        raise DataError(f"token file {self._paths[shard]} was cut short while it was read.")
      out[done:done + count] = np.frombuffer(raw, self._dtype)
      done += count
      shard += 1
    return out

  def _file(self, shard: int) -> int:
    if shard not in self._files:
      # Two threads may both open it: the loser's file is closed with the process.
      self._files[shard] = os.open(self._paths[shard], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    return self._files[shard]

  def __del__(self) -> None:
    for file in self._files.values():
      os.close(file)


def _require_size(path: Path, size: int) -> None:
  if not path.is_file():
    raise DataError(f"token file {path} is missing; prepare the text again, in another folder.")
  if (found := path.stat().st_size) != size:
    raise DataError(f"token file {path} has {found:,} bytes where {MANIFEST} says {size:,}: it is "
                    f"{'cut short' if found < size else 'another one'}; prepare the text again, in another folder.")


def _digest(record: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
