"""Writes one page about many runs: tables to sort and filter, curves, samples.

  python -m experiments.report DIR... [--out=report.html] [--title=TITLE]

DIR is a workdir, or a folder of workdirs. The page is one file that needs no network. It has the leaderboard's tables
by data and split, with each row's paired difference from the best one; bits/dim as coded beside those claimed;
validation curves of a table's runs; and each run's pictures, those of runs under way and unscored ones too.
"""

from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm.studies.report_page import save_report_page

_OUT = flags.DEFINE_string("out", "report.html", "The page to write.")
_TITLE = flags.DEFINE_string("title", "Runs", "Heading of the page.")


def main(arguments: Sequence[str]) -> None:
  folders = cli.require_folders(arguments, "report", "[--out=report.html]")
  out = cli.require_place("out")
  num = save_report_page(out, folders, _TITLE.value)
  print(f"{num} runs in {out}, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
  cli.run(main, with_arguments=True)
