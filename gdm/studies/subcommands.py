"""Commands of this project run one after another, each as a process of its own."""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence

from gdm.errors import ConfigError


def run_each(commands: Iterable[Sequence[str]], is_dry: bool = False) -> Iterator[str]:
  """Run commands in order; where `is_dry`, yield each as a line of a shell, without the interpreter, and run nothing.

  Args:
    commands: a module and its arguments each, as ["experiments.train", "--workdir=..."]; each one is asked for when
      those before it have ended.
    is_dry: whether to yield them only.

  Raise ConfigError where one fails.
  """
  for command in commands:
    if is_dry:
      yield shlex.join(command)
    elif subprocess.run([sys.executable, "-m", *command], check=False).returncode:
      raise ConfigError(f"this command failed: python -m {shlex.join(command)}")
