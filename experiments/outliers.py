"""Anomaly detection: how well scores of trained runs tell a run's own test data from other data.

  python -m experiments.outliers --workdir=runs/pixelcnn [--against=rotated,shuffled,patches,tfds:mnist]
      [--pictures=cifar10_small.npz] [--background=runs/background] [--classifiers=runs/cnn_0,runs/cnn_1]
      [--reconstruction=runs/vae] [--batches=1,10] [--num=2000] [--data_dir=DIR]

Other data: `rotated` are the test pictures turned by a quarter, `shuffled` each with its pixels in an order of its own,
`patches` cut out of the pictures of an npz (with an array `test` of bytes), grey where the data is; and any data set by
its name, `tfds:mnist` or `npz:FILE.npz`, with the run's transforms, of the same event and levels: nothing is resized.

Scores, as far as the runs have them: the log-likelihood, up to a constant where a model knows no more; its ratio to a
background model's (of data mutated by the transform `mutate`, say); corrected by the bits of a lossless coder;
typicality of batches (the distance of their mean log-likelihood from that of validation data); confidence and energy of
a classifier, agreement of several; reconstruction error. gdm/evaluation/outlier_scores.py defines them.

Prints a line for each score and other data: the area under the ROC curve, areas under precision and recall in finding
the run's own data and in finding the others, and the share of others taken for its own where 95 % of its own are. All
with 95 % intervals, that take both sets for independent (they are rather too wide where one is made of the other).
Writes `outliers.json` and `outliers.png` into the workdir.
"""

import numpy as np
from absl import flags

from experiments import cli
from gdm.data.load import load_dataset
from gdm.errors import ConfigError, nearest
from gdm.evaluation.detection import Detection, detection
from gdm.evaluation.intervals import brackets
from gdm.evaluation.outlier_scores import typicality
from gdm.evaluation.outliers import MADE_OF_DATA, patches
from gdm.evaluation.ranking import has_density
from gdm.runs.outlier_scores import (
  Runs,
  named_run,
  other_data,
  reconstructs,
  require_capable,
  spread,
  tells_labels,
)
from gdm.runs.plotting import save_panels
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import write_json

_AGAINST = flags.DEFINE_list("against", list(MADE_OF_DATA), "Other data: rotated, shuffled, patches, or a data set.")
_PICTURES = flags.DEFINE_string("pictures", "", "An npz of pictures, to cut patches out of.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where TFDS data of --against lie.")
_BACKGROUND = flags.DEFINE_string("background", "", "Folder of a run whose log-likelihood is subtracted.")
_CLASSIFIERS = flags.DEFINE_list("classifiers", [], "Folders of runs that tell labels.")
_RECONSTRUCTION = flags.DEFINE_string("reconstruction", "", "Folder of a run that encodes and decodes.")
_BATCHES = flags.DEFINE_list("batches", ["1"], "Sizes of batches whose typicality is taken.")
_NUM = flags.DEFINE_integer("num", 0, "Examples of each set, spread over its test split; 0 for all.")
_SEED = flags.DEFINE_integer("seed", 0, "Of orders, places and the models' noise.")
cli.define_run("data", "evaluation")
SHOWN = 64


def main() -> None:
  for name in _AGAINST.value:
    if name not in (known := (*MADE_OF_DATA, "patches")) and ":" not in name:
      raise ConfigError(f"--against has {name!r}; {nearest(name, known)}")
  if "patches" in _AGAINST.value and not _PICTURES.value:
    raise ConfigError("--against has 'patches', but --pictures is empty; it must name an npz of pictures.")
  sizes = [_size(text) for text in _BATCHES.value]
  run = cli.open_run()
  if not run.dataset.spec.is_image and not all(":" in name for name in _AGAINST.value):
    raise ConfigError(f"{run.dataset.name} is {run.dataset.spec.event}; other data is made for images only.")
  runs, test = _runs(run), run.dataset.split("test")
  inside = test.rows(spread(test.num_examples, _NUM.value))["x"]
  others = {name: _other(run, name, inside) for name in _AGAINST.value}
  found: dict[str, dict[str, Detection]] = {name: {} for name in others}
  functions = runs.scores()
  for score, function in functions.items():
    own = function(inside)
    for name, x in others.items():
      found[name][score] = detection(own, function(x), _SEED.value)
      _tell(name, score, found[name][score], len(own), len(x))
  if has_density(run.model):
    nats, valid = functions["likelihood"], run.dataset.split("valid")
    entropy = -float(np.mean(nats(valid.rows(spread(valid.num_examples, _NUM.value))["x"])))
    own = nats(inside)
    for name, x in others.items():
      theirs = nats(x)
      for size in sizes:
        score = f"typicality of {size}"
        here, there = (typicality(each, entropy, size, _SEED.value) for each in (own, theirs))
        found[name][score] = detection(here, there, _SEED.value)
        _tell(name, score, found[name][score], len(here), len(there))
  write_json(run.folder / "outliers.json", {
      "model": run.config.model.name, "dataset": run.dataset.name, "step": run.step, "parameters": run.parameters,
      "seed": _SEED.value, "num_examples": len(inside),
      "runs": {"background": _BACKGROUND.value, "classifiers": _CLASSIFIERS.value,
               "reconstruction": _RECONSTRUCTION.value},
      "against": {name: {score: {measure: each._asdict() for measure, each in found._asdict().items()}
                         for score, found in scores.items()} for name, scores in found.items()}})
  if run.dataset.spec.is_image:
    panels = {name: x[np.linspace(0, len(x) - 1, min(SHOWN, len(x))).astype(int)] for name, x in others.items()}
    save_panels(run, "outliers", panels)


def _runs(run: TrainedRun) -> Runs:
  background = _named("--background", _BACKGROUND.value, run, has_density, "a run with a density, of mutated data say")
  reconstruction = _named("--reconstruction", _RECONSTRUCTION.value, run, reconstructs,
                          "a run that encodes and decodes, of an autoencoder or a VAE say")
  classifiers = [_named("--classifiers", folder, run, tells_labels, "runs of classifiers")
                 for folder in _CLASSIFIERS.value]
  return Runs(run, background, tuple(filter(None, classifiers)), reconstruction, _SEED.value)


def _named(flag: str, folder: str, run: TrainedRun, capable, what: str) -> TrainedRun | None:
  if not folder:
    return None
  other = named_run(flag, folder, run, what)
  require_capable(flag, [other], capable, what)
  return other


def _other(run: TrainedRun, name: str, inside: np.ndarray) -> np.ndarray:
  if name in MADE_OF_DATA:
    return MADE_OF_DATA[name](inside, _SEED.value)
  if name == "patches":
    pictures = load_dataset("npz", path=_PICTURES.value).split("test").rows(slice(None))["x"]
    return patches(pictures, run.dataset.spec, len(inside), _SEED.value)
  return other_data(name, load_dataset(name, data_dir=_DATA_DIR.value,
                                       transforms=run.config.data.transforms), run.dataset.spec, _NUM.value)


def _size(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise ConfigError(f"--batches has {text!r}; sizes of batches must be positive integers.")
  return int(text)


def _tell(name: str, score: str, found: Detection, num: int, others: int) -> None:
  shown = ", ".join(f"{label} {brackets(*measure)}" for label, measure in (
      ("AUROC", found.auroc), ("AUPR", found.aupr_inside), ("of others", found.aupr_outside),
      ("FPR at 95 %", found.fpr95)))
  print(f"{name} · {score}: {shown} ({num} against {others})")


if __name__ == "__main__":
  cli.run(main)
