"""Docstrings of subclasses with the fields that they inherit, so that `help` of a model lists them all."""

import inspect
import re

_SECTION = "Attributes:"
_ENTRY = re.compile(r"  (\w+(?:, \w+)*):")  # of a docstring whose first line is not indented


class DocumentsFields:
  """Base of models whose subclasses' docstrings get the "Attributes" of their bases."""

  def __init_subclass__(cls, **settings) -> None:
    super().__init_subclass__(**settings)
    if cls.__doc__ and "__doc__" in cls.__dict__:
      cls.__doc__ = with_inherited(cls)


def with_inherited(cls: type) -> str:
  """Return a class's docstring, its own attributes first, then those of its bases that it does not describe itself."""
  before, entries, after = _parts(inspect.cleandoc(cls.__dict__["__doc__"] or ""))
  for base in cls.__mro__[1:]:
    _, inherited, _ = _parts(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
    entries = {**entries, **{name: lines for name, lines in inherited.items() if name not in entries}}
  if not entries:
    return cls.__dict__["__doc__"]
  listed = [line for lines in dict.fromkeys(map(tuple, entries.values())) for line in lines]
  return "\n".join([*before, _SECTION, *listed, *(["", *after] if after else [])])


def _parts(doc: str) -> tuple[list[str], dict[str, list[str]], list[str]]:
  """Return the lines before the section, the lines of each of its entries by name, and the lines after it."""
  lines = doc.splitlines()
  if _SECTION not in lines:
    return [*lines, ""], {}, []
  start = lines.index(_SECTION)
  end = next((i for i in range(start + 1, len(lines)) if lines[i] and not lines[i].startswith("  ")), len(lines))
  entries: dict[str, list[str]] = {}
  entry: list[str] = []
  for line in filter(None, lines[start + 1:end]):
    if found := _ENTRY.match(line):
      entry = []
      entries |= dict.fromkeys(found[1].split(", "), entry)
    entry.append(line)
  return lines[:start], entries, lines[end:]
