"""Fills in voices or bars of test chorales by a trained run, as MIDI and as a picture of the score.

  python -m experiments.harmonize --workdir=runs/ardm [--keep=soprano] [--num=4] [--seed=0]
  python -m experiments.harmonize --workdir=runs/ardm --keep=bars:2-3

`--keep` names the voices that are kept (soprano, alto, tenor, bass; several by commas), or the bars that are filled in.
Writes `harmonized_000.mid` and so on, `original_000.mid`, and `harmonized_score.png`, in which what was given is pale,
into the workdir. The model must fill in any region, as ardm and masked do.
"""

from absl import flags

from experiments import cli
from gdm.studies.music import harmonize, save_music

_KEEP = flags.DEFINE_string("keep", "soprano", "Voices that are kept, or bars that are filled in, as bars:2-3.")
_NUM = flags.DEFINE_integer("num", 4, "How many test pieces.")
_SEED = flags.DEFINE_integer("seed", 0, "Another seed draws others.")
cli.define_run("data", "evaluation", "sampling", with_data=True)


def main() -> None:
  cli.at_least(num=1, seed=0)
  run = cli.open_run()
  found = harmonize(run, _KEEP.value, _NUM.value, _SEED.value)
  save_music(run, "original", found.original)
  paths = save_music(run, "harmonized", found.x, found.known)
  print(f"{len(found.x)} pieces in {run.folder}, from {paths[0].name} on, and {paths[-1].name}; "
        f"{100.0 * found.agreement:.1f} % of what was drawn is as in the original")


if __name__ == "__main__":
  cli.run(main)
