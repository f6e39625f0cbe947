"""Says why two evaluated runs can or cannot share a table, and where they can, by how much they differ.

  python -m experiments.compare runs/made runs/nade [--split=test]

Each is a workdir, or a report as runs/made/likelihood_test.json. What keeps two numbers apart is other data, other
transforms, another split, condition or number of dimensions; another kind, other draws and another precision are told
beside. The difference is paired over examples, with its 95 % interval.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import cli
from gdm.errors import ConfigError, WorkdirError
from gdm.evaluation.comparability import compare_reports
from gdm.evaluation.intervals import plus_minus
from gdm.evaluation.report import Report, one_line, read_report
from gdm.evaluation.scores import paired_difference, read_scores, scores_path
from gdm.storage import local_copy

_SPLIT = flags.DEFINE_string("split", "test", "The split, where a folder is given.")


def main(argv: Sequence[str]) -> None:
  if len(argv) != 3:
    raise ConfigError(f"{len(argv) - 1} runs are given; usage: python -m experiments.compare A B [--split=test].")
  paths = [_report_path(text) for text in argv[1:]]
  first, second = reports = [read_report(path) for path in paths]
  for report in reports:
    print(one_line(report))
  found = compare_reports(first, second)
  if found.apart:
    print("\n".join(["they cannot share a table:", *(f"  {each}" for each in found.apart)]))
  else:
    print("they share a table.")
    print(_difference(paths, reports))
  if found.beside:
    print("\n".join(["they differ in how they were scored:", *(f"  {each}" for each in found.beside)]))


def _report_path(text: str) -> Path:
  path = local_copy(text, "argument")
  path = path / f"likelihood_{_SPLIT.value}.json" if path.is_dir() else path
  if not path.is_file():
    raise WorkdirError(f"{path} does not exist; name a workdir that experiments.evaluate scored, or its report.")
  return path


def _difference(paths: Sequence[Path], reports: Sequence[Report]) -> str:
  one, other = (read_scores(scores_path(path), report) for path, report in zip(paths, reports, strict=True))
  if one is None or other is None:
    return "no scores of each example were kept; evaluate again for the paired difference."
  is_discrete = reports[0]["bits_per_dim"] is not None
  found = paired_difference([one], [other], is_discrete)
  unit = "bits/dim" if is_discrete else "nats"
  return (f"the first minus the second: {plus_minus(found.mean, found.ci95, sign='+')} {unit} "
          f"({found.kind.replace('_', ' ')}, 95 % interval, paired over {len(one.nats)} examples)")


if __name__ == "__main__":
  cli.run(main)
