"""`gdm <command>` is `python -m experiments.<command>`, from any folder.

  gdm train --config=made:digits --workdir=runs/made
  gdm evaluate --workdir=runs/made
"""

import ast
import runpy
import sys
import textwrap
from pathlib import Path

from experiments import early

WIDTH = 80  # columns of a terminal
_NO_COMMANDS = ("__init__", "__main__", "cli", "early", "hosts")


def main() -> None:
  """Run the command that the first argument names."""
  command, *argv = [*sys.argv[1:], ""][:max(1, len(sys.argv) - 1)]
  if command in ("", "--help", "-h", "help"):
    print(usage())
    sys.exit(0 if command else early.fail("a command is missing."))
  if command == "--version":
    import gdm

    print(f"gdm {gdm.__version__}")
    return
  if command not in (known := commands()):
    from gdm.errors import nearest

    sys.exit(early.fail(f"there is no command {command!r}; {nearest(command, known)}"))
  module = f"experiments.{command}"
  if message := early.misspelt(module, argv):
    sys.exit(early.fail(message))
  sys.argv = [f"gdm {command}", *argv]
  sys.path.insert(0, "")  # where models of one's own lie, as `python -m` has it
  runpy.run_module(module, run_name="__main__", alter_sys=True)


def commands() -> dict[str, str]:
  """Return the first line of what each command does, by name."""
  folder = Path(__file__).parent
  found = {path.stem: path for path in folder.glob("*.py") if path.stem not in _NO_COMMANDS}
  found |= {path.parent.name: path for path in folder.glob("*/__main__.py")}
  return {name: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
          for name, path in sorted(found.items())}


def usage() -> str:
  """Return a list of the commands, in lines of 80 columns."""
  lines = [(__doc__ or "").strip(), "", "Commands:"]
  for name, words in commands().items():
    lines += textwrap.wrap(words, WIDTH, initial_indent=f"  {name:12} ", subsequent_indent=" " * 15)
  return "\n".join([*lines, "", "`gdm <command> --help` says more."])


if __name__ == "__main__":
  main()
