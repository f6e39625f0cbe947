"""Learning curves: the error of models of labels by the number of training examples, on the same draws.

  python -m experiments.learning_curve --data=FILE.npz --workdir=runs/spam [--models=naive_bayes,logistic_regression]
      [--features=presence] [--sizes=20,50,100,200,500,1000,2000] [--folds=10] [--draws=1] [--deduplicate]

The file is an npz with arrays `x` and `label`, or lines of a label, a tab and a text. Examples are put into folds,
equal ones into the same; --deduplicate keeps only the first of equal ones. Each fold is tested on by models of examples
drawn from the other folds: so many of each size, `draws` times, and all of them. Models are those that are solved.

Features are made of the training part alone: `presence` (which are above 0; of texts, its 1,000 most frequent words),
`standardized`, or `logarithms` (log(0.1 + x), standardized).

Prints the mean error at each size with its 95 % interval over folds and draws, and where the first two curves cross.
Writes `learning_curve_<features>.json` and `.png` into the workdir.
"""

from absl import flags

from experiments import cli
from gdm import checks
from gdm.studies.labelled import FEATURES
from gdm.studies.learning_curve import learn, parse_sizes

_DATA = flags.DEFINE_string("data", None, "An npz with x and label, or lines of label, tab, text.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the results.")
_MODELS = flags.DEFINE_list("models", ["naive_bayes", "logistic_regression"], "Names of models that are solved.")
_FEATURES = flags.DEFINE_string("features", "presence", "presence, standardized or logarithms.")
_SIZES = flags.DEFINE_list("sizes", ["20", "50", "100", "200", "500", "1000", "2000"], "Numbers of training examples.")
_FOLDS = flags.DEFINE_integer("folds", 10, "Folds.")
_DRAWS = flags.DEFINE_integer("draws", 1, "Training sets of each size for each fold.")
_DEDUPLICATE = flags.DEFINE_bool("deduplicate", False, "Whether only the first of equal examples is kept.")
_SEED = flags.DEFINE_integer("seed", 0, "Of folds and draws.", lower_bound=0)


def main() -> None:
  checks.one_of("--features", _FEATURES.value, FEATURES)
  cli.at_least(draws=1)
  sizes = parse_sizes(_SIZES.value)
  cli.show(learn(cli.require_path("data"), cli.require_path("workdir"), _MODELS.value, sizes,
                 name=cli.require_flag("data"), features=_FEATURES.value, num_folds=_FOLDS.value,
                 num_draws=_DRAWS.value, is_deduplicated=_DEDUPLICATE.value, seed=_SEED.value))


if __name__ == "__main__":
  cli.run(main)
