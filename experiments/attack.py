"""Attacks on a trained classifier, alone and behind a purifier, and whether a density notices them.

  python -m experiments.attack --workdir=runs/cnn [--purifier=runs/pixelcnn] [--norm=linf] [--epsilon=8]
      [--num_steps=40] [--num_restarts=1] [--num=1000] [--split=test] [--aware]
      [--purifier_epsilon=32] [--keep=0] [--deviation=30] [--num_draws=1]

Attacks are the fast gradient sign method, its iteration and projected gradient from random starts, in a ball of radius
epsilon in the data's units: of 256 levels, 8 is the literature's 8/255. Inputs stay integers within their levels.

The purifier is a run whose model has conditionals in raster order (PixelDefend: values move by --purifier_epsilon at
most; with --keep=0.95, only inputs less likely than that share of validation data are purified) or denoises
(--deviation, in the data's units). Its log-likelihood, where it has one, is what detection goes by: as an area under
the ROC curve of attacked against clean, and by p-values among training examples.

Prints accuracy for each attack: of the classifier alone, behind the purifier on the same inputs, and with --aware
behind the purifier on inputs that were made against it (the gradient taken as if purification were the identity, and
averaged over --num_draws draws). Only the last number says what the purifier is worth. Writes `attack_<norm>.json` and
`attack_<norm>.png` into the workdir.
"""

from absl import flags

from experiments import cli
from gdm.studies.defence import attack_run, attacks_of

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_NUM = flags.DEFINE_integer("num", 1000, "Examples, spread over the split; 0 for all.", lower_bound=0)
_NORM = flags.DEFINE_string("norm", "linf", "linf or l2.")
_EPSILON = flags.DEFINE_float("epsilon", 8.0, "Radius of the ball, in the data's units.")
_STEPS = flags.DEFINE_integer("num_steps", 40, "Steps of the attacks of several steps.")
_RESTARTS = flags.DEFINE_integer("num_restarts", 1, "Starts of projected gradient.")
_PURIFIER = flags.DEFINE_string("purifier", "", "Folder of the run that purifies.")
_AWARE = flags.DEFINE_bool("aware", False, "Whether to attack through the purifier too.")
_REACH = flags.DEFINE_float("purifier_epsilon", 32.0, "How far PixelDefend moves a value, in levels.")
_KEEP = flags.DEFINE_float("keep", 0.0, "Share of validation data that PixelDefend leaves alone.")
_DEVIATION = flags.DEFINE_float("deviation", 30.0, "Deviation of a denoiser's noise, in the data's units.")
_DRAWS = flags.DEFINE_integer("num_draws", 1, "Draws of the purifier for each gradient.")
_SEED = flags.DEFINE_integer("seed", 0, "Of starts and draws.", lower_bound=0)
cli.define_run("data", "evaluation")


def main() -> None:
  attacks = attacks_of(_NORM.value, _EPSILON.value, _STEPS.value, _RESTARTS.value)
  cli.show(attack_run(cli.open_run(), attacks, purifier=_PURIFIER.value, purifier_epsilon=_REACH.value,
                      keep=_KEEP.value, deviation=_DEVIATION.value, num_draws=_DRAWS.value, split=_SPLIT.value,
                      num=_NUM.value, is_aware=_AWARE.value, seed=_SEED.value))


if __name__ == "__main__":
  cli.run(main)
