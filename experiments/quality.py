"""Quality of a trained run's samples, by each of several samplers: kernel distances from real data.

  python -m experiments.quality --workdir=runs/ddpm [--split=test] [--num=5000]
      [--samplers=ddim:20,ancestral:1000,dpm_solver:10] [--reference=ancestral:1000] [--config.sampling.guidance=2]

Prints a table and writes `quality_<split>.json` into the workdir, and where there are several samplers `nfe.png`:
distance against network evaluations. The distance is the unbiased squared maximum mean discrepancy on the data's own
values, scaled (so it is no KID, which is on features of a network), times 1,000, with its 95 % interval; the last row
is other data in place of samples. Differences from the reference come with their own interval, which is narrower than
that of either number, since both are measured on the same data. A model with one way to sample has one row.
"""

import functools
import sys
from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm.evaluation.quality import table, write_quality
from gdm.runs.comparison import DEFAULT_SAMPLERS, choose, compare
from gdm.runs.load import load_run
from gdm.runs.plotting import draw_nfe
from gdm.runs.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by validation), last, or a step.")
_NUM = flags.DEFINE_integer("num", 5000, "Samples to draw by each sampler.")
_SAMPLERS = flags.DEFINE_string("samplers", "", f"<sampler>:<steps>, separated by commas; {DEFAULT_SAMPLERS} by "
                                "default, for models that have samplers.")
_REFERENCE = flags.DEFINE_string("reference", "", "Which of them the others are compared with; by default the one of "
                                 "most steps.")
cli.define_overrides("sampling", "data", "evaluation")


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  workdir = Workdir(cli.require_flag("workdir"))
  run = load_run(workdir, cli.overrides(), _CHECKPOINT.value)
  choices, reference = choose(run, _SAMPLERS.value, _REFERENCE.value)
  tell = functools.partial(print, file=sys.stderr)  # a thousand steps take a while
  found = compare(run, _SPLIT.value, _NUM.value, choices, reference, tell)
  name = f"quality_{_SPLIT.value}.json"
  write_quality(workdir.path / name, found.about, found.rows, found.floor, found.reference)
  print(f"{found.about['model']} on {found.about['dataset']} · {_SPLIT.value} · {found.about['num_data']:,} examples, "
        f"{_NUM.value:,} samples each · {found.about['device']}")
  print(table(found.rows, found.floor, found.reference))
  drawn = draw_nfe(workdir, found)
  print(f"{name}{' and nfe.png' if drawn else ''} in {workdir.path}")


if __name__ == "__main__":
  cli.run(main)
