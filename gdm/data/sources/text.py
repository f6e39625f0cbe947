"""Text files: `text:<path>`, with the options of passages.py.

The first 90 % (of the characters of a stream, of the lines, of the paragraphs) are the training split, the last 10 %
the validation split; there is no test split, as is the custom with small corpora. Line breaks are "\\n", whatever the
file has, and a byte order mark at its start is left out.
"""

import pathlib

from gdm.data.dataset import Dataset
from gdm.data.sources.passages import FIRST_PART, OPTIONS, choices_of, from_passages, normalized, split_text
from gdm.data.sources.request import Request
from gdm.errors import DataError
from gdm.paths import why_no_file

__all__ = ["OPTIONS", "load"]


def load(request: Request) -> Dataset:
  """Return the set of a text file. Raise DataError where it is missing, empty or not UTF-8, and what `from_passages`
  raises."""
  choices, path = choices_of(request), pathlib.Path(request.argument)
  where = f"text file {path}"
  parts = split_text(normalized(_read(path)), choices.unit)
  return from_passages(parts, choices, request, f"text:{path.stem}{choices.shown()}", where, {"source": str(path)},
                       FIRST_PART)


def _read(path: pathlib.Path) -> str:
  if not path.is_file():
    raise DataError(f"text file {str(path)!r} {why_no_file(path)}; name it by data.path or text:<path>.")
  try:
    text = path.read_bytes().decode("utf-8-sig")  # a byte order mark is no character of the text
  except UnicodeDecodeError as error:
    raise DataError(f"text file {path} is not UTF-8: byte {error.start} is "
                    f"{error.object[error.start]:#04x}.") from error
  if not text.strip():
    raise DataError(f"text file {path} is empty.")
  return text
