"""Check this machine: versions, devices, XLA's flag, compiled programs against a reference, precision of products.

  python -m experiments.doctor          a few programs of each kind, about 20 seconds on an idle machine
  python -m experiments.doctor --all    every program at three sizes, minutes

Each program of gdm/selfcheck.py is compiled as a whole and compared with the same operations one at a time in float64.
Exits with 1 if anything fails, and says in words what to do.
"""

from absl import flags

from experiments import cli
from gdm.studies.machine import check_machine

_ALL = flags.DEFINE_bool("all", False, "Run every program at three sizes instead of a few.")


def main() -> int:
  remedies = check_machine(_ALL.value)
  for remedy in remedies:
    print(f"\n{remedy}")
  return 1 if remedies else 0


if __name__ == "__main__":
  cli.run(main, precise=False)  # which compares precisions
