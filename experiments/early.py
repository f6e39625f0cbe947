"""A misspelt flag is told at once, before the seconds that importing JAX takes.

The flags of a command are read from its source, not by importing it.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_DEFINITION = re.compile(r"(DEFINE|define)_\w+$")
_RUN_FLAGS = {"define_run": ("workdir", "checkpoint", "data")}  # what functions of experiments.cli define
_CONFIG = "config"  # its fields are checked with the config


def misspelt(command: str, argv: Sequence[str]) -> str | None:
  """Return the message about the first flag that a command does not have and that is nearly one that it has.

  Args:
    command: its module, as "experiments.train".
    argv: its arguments.
  """
  source = source_of(command)
  if source is None:
    return None
  given = [argument.lstrip("-").partition("=")[0] for argument in argv if argument.startswith("-")]
  given = [name for name in given if name and name.partition(".")[0].removeprefix("no") != _CONFIG]
  known = set(flags_of(source))
  if not known.issuperset(given):
    from absl import app, flags, logging  # noqa: F401, which define flags themselves

    from gdm.errors import nearest

    known |= set(flags.FLAGS)
    for name in (name for name in given if name not in known and name.removeprefix("no") not in known):
      if (hint := nearest(f"--{name}", [f"--{each}" for each in known])).startswith("did you mean"):
        return f"there is no flag --{name}; {hint}"
  return None


def source_of(module: str) -> Path | None:
  """Return the file of a module of this package, None where it has none."""
  path = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
  return path if path.is_file() else None


def flags_of(source: Path) -> Iterator[str]:
  """Yield the names of the flags that a file defines, and those of this package that it imports."""
  tree = ast.parse(source.read_text())
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module == "experiments":
      for path in _siblings(alias.name for alias in node.names):
        yield from flags_of(path)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _DEFINITION.match(node.func.attr):
      yield from _RUN_FLAGS.get(node.func.attr, ())
      if node.args and isinstance(node.args[0], ast.Constant) and node.func.attr.startswith("DEFINE"):
        yield str(node.args[0].value)


def _siblings(names: Iterable[str]) -> Iterator[Path]:
  for name in names:
    if path := source_of(f"experiments.{name}"):
      yield path


def fail(message: str) -> int:
  """Print an error as all commands do, and return the exit code."""
  print(f"error: {message}", file=sys.stderr)
  return 2
