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

from absl import flags

from experiments import cli
from gdm.errors import ConfigError, nearest
from gdm.evaluation.outliers import MADE_OF_DATA
from gdm.studies.outlier_scores import find_outliers

_AGAINST = flags.DEFINE_list("against", list(MADE_OF_DATA), "Other data: rotated, shuffled, patches, or a data set.")
_PICTURES = flags.DEFINE_string("pictures", "", "An npz of pictures, to cut patches out of.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where TFDS data of --against lie.")
_BACKGROUND = flags.DEFINE_string("background", "", "Folder of a run whose log-likelihood is subtracted.")
_CLASSIFIERS = flags.DEFINE_list("classifiers", [], "Folders of runs that tell labels.")
_RECONSTRUCTION = flags.DEFINE_string("reconstruction", "", "Folder of a run that encodes and decodes.")
_BATCHES = flags.DEFINE_list("batches", ["1"], "Sizes of batches whose typicality is taken.")
_NUM = flags.DEFINE_integer("num", 0, "Examples of each test split; 0 for all.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of orders, places and the models' noise.", lower_bound=0)
cli.define_run("data", "evaluation")


def main() -> None:
  for name in _AGAINST.value:
    if name not in (known := (*MADE_OF_DATA, "patches")) and ":" not in name:
      raise ConfigError(f"--against has {name!r}; {nearest(name, known)}")
  if "patches" in _AGAINST.value and not _PICTURES.value:
    raise ConfigError("--against has 'patches', but --pictures is empty; it must name an npz of pictures.")
  sizes = [_size(text) for text in _BATCHES.value]
  cli.show(find_outliers(cli.open_run(), _AGAINST.value, pictures=_PICTURES.value, data_dir=_DATA_DIR.value,
                         background=_BACKGROUND.value, classifiers=_CLASSIFIERS.value,
                         reconstruction=_RECONSTRUCTION.value, batch_sizes=sizes, num=_NUM.value,
                         seed=_SEED.value))


def _size(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise ConfigError(f"--batches has {text!r}; sizes of batches must be positive integers.")
  return int(text)


if __name__ == "__main__":
  cli.run(main)
