"""Quality of a trained run's samples, by each of several samplers, beside what other data score in their place.

  python -m experiments.quality --workdir=runs/ddpm [--split=test] [--num=5000]
      [--samplers=ddim:20,ancestral:1000,dpm_solver:10] [--reference=ancestral:1000] [--config.sampling.guidance=2]
      [--features=runs/classifier] [--classifier=runs/classifier] [--measures=frechet,modes]

Prints a table for each measure and writes them into `quality_<split>.json` of the workdir, and where there are several
samplers `nfe.png`: distance against network evaluations; of images `neighbours.png`: samples beside their nearest
training examples. docs/guides/quality.md defines each measure, and lists when it misleads.

The first table has the unbiased squared maximum mean discrepancy from the split, times 1,000, with its 95 % interval.
Differences from the reference come with their own interval, which is narrower than that of either number, since both
are measured on the same data. A model with one way to sample has one row. Then come the Fréchet distance with its bias
extrapolated; precision, recall, density and coverage; modes of a mixture that is known; labels by a classifier; and a
test for copies of training data. The last row of each is other data in place of samples.

Features are the data's own values, scaled; those of another run (--features=<its workdir>), by its classifier's
features or its encoder's latents; or a function of yours, --features=my_package.my_module:my_function, which maps an
array [n, *event] to numbers [n, dims].
"""

import functools
import sys

from absl import flags

from experiments import cli
from gdm.evaluation.quality import table, write_quality
from gdm.runs.comparison import DEFAULT_SAMPLERS, choose, compare
from gdm.runs.plotting import draw_neighbours, draw_nfe
from gdm.studies.labels import Labeler
from gdm.studies.measures import choose_measures, measure

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_NUM = flags.DEFINE_integer("num", 5000, "Samples to draw by each sampler.")
_SAMPLERS = flags.DEFINE_string("samplers", "", f"<sampler>:<steps>, separated by commas; {DEFAULT_SAMPLERS} by "
                                "default, for models that have samplers.")
_REFERENCE = flags.DEFINE_string("reference", "", "Which of them the others are compared with; by default the one of "
                                 "most steps.")
_FEATURES = flags.DEFINE_string("features", "pixels", "pixels, the folder of a trained run with features or latents, "
                                "or <module>:<function>.")
_CLASSIFIER = flags.DEFINE_string("classifier", "", "Folder of a trained run that tells labels.")
_MEASURES = flags.DEFINE_string("measures", "", "Which to take beside kernel distances, separated by commas: frechet, "
                                "manifolds, modes, labels, memorization; by default all that can be.")
cli.define_run("sampling", "data", "evaluation")


def main() -> None:
  run = cli.open_run()
  measures = choose_measures(_MEASURES.value, run, bool(_CLASSIFIER.value))
  labeler = Labeler(_CLASSIFIER.value, run) if _CLASSIFIER.value else None
  choices, reference = choose(run, _SAMPLERS.value, _REFERENCE.value)
  tell = functools.partial(print, file=sys.stderr)  # a thousand steps take a while
  found = compare(run, _SPLIT.value, _NUM.value, choices, reference, tell, _FEATURES.value)
  further = measure(run, found, measures, labeler)
  name = f"quality_{_SPLIT.value}.json"
  write_quality(run.folder / name, found.about, found.rows, found.floor, found.reference,
                {each.name: each.contents for each in further.tables})
  about = found.about
  print(f"{about['model']} on {about['dataset']} · {_SPLIT.value} · {about['num_data']:,} examples, {_NUM.value:,} "
        f"samples each · {about['device']}")
  print(table(found.rows, found.floor, found.reference))
  for each in further.tables:
    if each.text:
      print(f"\n{each.text}")
  written = [name]
  if draw_nfe(run.folder, found):
    written.append("nfe.png")
  if further.neighbours and draw_neighbours(run, next(iter(found.samples.values())).x, further.neighbours):
    written.append("neighbours.png")
  features = about["features"]
  print(f"\nfeatures: {features['name']} ({features['dims']:,} numbers); fingerprint of the data: "
        f"{about['data_fingerprint']}")
  print(f"{' and '.join(written)} in {run.folder}")


if __name__ == "__main__":
  cli.run(main)
