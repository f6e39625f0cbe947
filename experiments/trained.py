"""Tells what a trained run is: its model, its data, its scores, and how to load it.

  python -m experiments.trained --workdir=runs/made

In one's own code the same run is `gdm.load("runs/made")`.
"""

from experiments import cli
from gdm.runs.card import model_card
from gdm.runs.load import load_run, open_run

__all__ = ["load_run", "open_run"]

cli.define_run("evaluation")


def main() -> None:
  run = cli.open_run()
  print(model_card(run, cli.require_flag("workdir")))


if __name__ == "__main__":
  cli.run(main)
