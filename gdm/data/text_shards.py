"""Texts of any size in pieces of known size: ranges of bytes that can be tokenized one by one.

A range ends where no token reaches over, so that the tokens of the ranges, one after the other, are those of the text:

  stream, words or byte pairs   before white space that follows something else: no word, no byte pair spans it
  stream, characters            anywhere but within a character or within the two bytes of a DOS line break
  lines, paragraphs             where a line, or a paragraph, ends

Line breaks are "\\n", whatever the file has, and a byte order mark at the start of a file is left out, as in
gdm/data/sources/text.py.
"""

import codecs
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from gdm.errors import DataError

CHUNK_BYTES = 1 << 20  # of text that is tokenized at a time

_BREAK = r"(?>\r\n?|\n)"
_CUTS = {
    "characters": re.compile(r"[^\r](?=.)", re.DOTALL),
    "stream": re.compile(r"[^\s\x1c-\x1f](?=[ \t\r\n])"),
    "lines": re.compile(_BREAK + r"(?=[^\r\n])"),
    "paragraphs": re.compile(_BREAK + r"\s*" + _BREAK + r"(?=[^\S\r\n]*\S)"),
}
# What stands between the examples of a text, by unit.
DIVIDERS = {"lines": re.compile(r"\n"), "paragraphs": re.compile(r"\n\s*\n")}
_WINDOW = 1 << 16  # bytes that a cut is looked for in at a time
_LONGEST = 1 << 28  # bytes without a place to cut, at most


@dataclasses.dataclass(frozen=True)
class TextRange:
  """A part of a text.

  Attributes:
    path: the file.
    start, stop: its bytes [start, stop).
    offset: characters of the file before it, where they were counted.
  """

  path: str
  start: int
  stop: int
  offset: int = 0

  @property
  def size(self) -> int:
    return self.stop - self.start


def text_files(place: Path) -> tuple[Path, ...]:
  """Return the file, or all files of a folder and its sub-folders in order of their paths, hidden ones left out.

  Raise DataError where there is none.
  """
  if place.is_dir():
    found = sorted(path for path in place.rglob("*") if path.is_file()
                   and not any(part.startswith(".") for part in path.relative_to(place).parts))
    if not found:
      raise DataError(f"folder {place} has no files; name a text file, or a folder of some.")
    return tuple(found)
  if not place.is_file():
    raise DataError(f"text {str(place)!r} does not exist; name a file or a folder as text:<path>.")
  return (place,)


def ranges_of(paths: Sequence[Path], cut: str, num_bytes: int) -> list[TextRange]:
  """Return ranges of about `num_bytes` that make up the files; `cut` is a key of the table above (see `cut_of`)."""
  found = []
  for path in paths:
    size = path.stat().st_size
    with path.open("rb") as file:
      start = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
      while start < size:
        stop = next_cut(file, min(start + num_bytes, size), size, cut)
        found.append(TextRange(str(path), start, stop))
        start = stop
  return found


def cut_of(unit: str, tokens: str) -> str:
  """Return where texts of such units and tokens are cut."""
  return "characters" if unit == "stream" and tokens == "characters" else unit


def grouped(ranges: Sequence[TextRange], num_bytes: int) -> list[tuple[TextRange, ...]]:
  """Return the ranges in order, as shards of about `num_bytes`."""
  shards: list[tuple[TextRange, ...]] = []
  now: list[TextRange] = []
  for each in ranges:
    now.append(each)
    if sum(part.size for part in now) >= num_bytes:
      shards.append(tuple(now))
      now = []
  return [*shards, tuple(now)] if now else shards


def next_cut(file, target: int, stop: int, cut: str) -> int:
  """Return the first byte from `target` on where the text may be cut, or `stop`.

  Raise DataError where there is none for 256 MiB.
  """
  if target >= stop:
    return stop
  size = _WINDOW
  while True:
    file.seek(target)
    window = file.read(min(size, stop - target))
    lead = next((i for i, byte in enumerate(window[:4]) if byte & 0xC0 != 0x80), 0)  # not within a character
    text = window[lead:].decode("utf-8", "surrogateescape")
    if found := _CUTS[cut].search(text):
      return target + lead + len(text[:found.end()].encode("utf-8", "surrogateescape"))
    if target + size >= stop:
      return stop
    if size >= _LONGEST:
      raise DataError(f"text file {file.name} has no place to cut it from byte {target} on, for {size >> 20} MiB; "
                      f"it must have some: unit {cut} ends nowhere there.")
    size *= 4


def read_texts(part: TextRange, cut: str) -> Iterator[str]:
  """Yield the text of a range, in order and in chunks that are cut as ranges are. Raise DataError for no UTF-8."""
  with open(part.path, "rb") as file:
    start = part.start
    while start < part.stop:
      stop = next_cut(file, min(start + CHUNK_BYTES, part.stop), part.stop, cut)
      file.seek(start)
      yield _decode(part.path, file.read(stop - start), start).replace("\r\n", "\n").replace("\r", "\n")
      start = stop


def pieces_of(text: str, unit: str) -> list[tuple[int, int]]:
  """Return where the lines, or paragraphs, of a text are; those without anything but white space fall out."""
  breaks = [match.span() for match in DIVIDERS[unit].finditer(text)]
  starts, stops = [0, *(stop for _, stop in breaks)], [*(start for start, _ in breaks), len(text)]
  return [(start, stop) for start, stop in zip(starts, stops, strict=True) if text[start:stop].strip()]


def split_at(part: TextRange, unit: str, cut: str, place: int) -> tuple[TextRange, TextRange]:
  """Return a range in two: `place` characters (of a stream) or pieces, and the rest."""
  with open(part.path, "rb") as file:
    start = part.start
    while start < part.stop:
      stop = next_cut(file, min(start + CHUNK_BYTES, part.stop), part.stop, cut)
      file.seek(start)
      raw = _decode(part.path, file.read(stop - start), start)
      starts = _unit_starts(raw, unit)
      if place < len(starts):
        at = start + len(raw[:starts[place]].encode())
        return dataclasses.replace(part, stop=at), dataclasses.replace(part, start=at)
      place -= len(starts)
      start = stop
  return part, dataclasses.replace(part, start=part.stop)


def _unit_starts(raw: str, unit: str) -> Integer[np.ndarray, " units"]:
  """Return where each character of the text begins (a line break is one), or each line or paragraph."""
  codes = np.frombuffer(raw.encode("utf-32-le"), np.uint32)
  second = np.zeros(len(codes), bool)  # of the two characters of a DOS line break
  second[1:] = (codes[1:] == ord("\n")) & (codes[:-1] == ord("\r"))
  starts = np.flatnonzero(~second)
  if unit == "stream":
    return starts
  return starts[[start for start, _ in pieces_of(raw.replace("\r\n", "\n").replace("\r", "\n"), unit)]]


def _decode(path: str, raw: bytes, start: int) -> str:
  try:
    return raw.decode()
  except UnicodeDecodeError as error:
    raise DataError(f"text file {path} is not UTF-8: byte {start + error.start} is "
                    f"{error.object[error.start]:#04x}.") from error
