"""Says why two evaluated runs can or cannot share a table, and where they can, by how much they differ.

  python -m experiments.compare runs/made runs/nade [--split=test]

Each is a workdir, or a report as runs/made/likelihood_test.json. What keeps two numbers apart is other data, other
transforms, another split, condition or number of dimensions; another kind, other draws and another precision are told
beside. The difference is paired over examples, with its 95 % interval.
"""

from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm.errors import ConfigError
from gdm.evaluation.comparability import comparison_lines
from gdm.evaluation.report import report_path
from gdm.storage import local_copy

_SPLIT = flags.DEFINE_string("split", "test", "The split, where a folder is given.")


def main(arguments: Sequence[str]) -> None:
  if len(arguments) != 2:
    raise ConfigError(f"{len(arguments)} runs are given; usage: python -m experiments.compare A B [--split=test].")
  first, second = (report_path(local_copy(text, "argument"), _SPLIT.value) for text in arguments)
  cli.show(comparison_lines(first, second))


if __name__ == "__main__":
  cli.run(main, with_arguments=True)
