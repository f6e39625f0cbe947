"""absl binaries: train, evaluate, sample, leaderboard, speed; `gdm <command>` where the package is installed."""

import sys

from experiments import early


def _check_flags() -> None:
  """End with a line where this package is run as `python -m experiments.<command>` with a misspelt flag."""
  words = sys.orig_argv
  if "-m" not in words:
    return
  command, *argv = [*words[words.index("-m") + 1:], ""][:-1] or [""]
  if command.startswith("experiments.") and (message := early.misspelt(command, argv)):
    sys.exit(early.fail(message))


_check_flags()
