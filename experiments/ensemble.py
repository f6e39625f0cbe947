"""Mixes finished runs on the same data into one model, with weights fitted on the validation split.

  python -m experiments.ensemble --workdir=runs/ensemble runs/made_0 runs/made_1 runs/mixture_0 [--num_samples=20]
  python -m experiments.ensemble --workdir=runs/ensemble --mix=tokens runs/pixelcnn runs/row_lstm

log p(x) = logsumexp_k (log w_k + log p_k(x)): a mixture of the runs' distributions, and so a distribution. The weights
are the maximum-likelihood ones on the validation split (EM; a convex problem); the test split plays no part. The result
is a workdir like any other: evaluate, sample and leaderboard take it.

With --mix=tokens every conditional is mixed, p(x_t | x_<t) = sum_k w_k p_k(x_t | x_<t), of models that take images or
sequences in raster order. That is an exact likelihood too, mostly a higher one, and `compress` codes by it.

Runs on the same data are those whose splits hold the same examples; names of files and the order of the runs don't
matter. The number of a mixture is exact or a bound where those of its runs may be mixed (see `gdm.likelihood.mix`), and
an estimate otherwise, as of diffusion models by their bounds. Bounds that --num_samples tightens get the weights that
they deserve then.
"""

from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm.studies.mixing import mix_runs

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the ensemble; made if absent.")
_WEIGHTS = flags.DEFINE_enum("weights", "valid", ["valid", "uniform"], "Fitted on the validation split, or all equal.")
_MIX = flags.DEFINE_enum("mix", "examples", ["examples", "tokens"], "What each probability that is mixed is of.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 0, "Importance samples of the bounds that weights are fitted on; 0 "
                                    "for as many as the run with the most.")
_MIN_WEIGHT = flags.DEFINE_float("min_weight", 1e-3, "Runs of a smaller weight are left out.")


def main(arguments: Sequence[str]) -> None:
  cli.show(mix_runs(cli.require_flag("workdir"), arguments, is_fitted=_WEIGHTS.value == "valid",
                    by_tokens=_MIX.value == "tokens", num_samples=_NUM_SAMPLES.value,
                    min_weight=_MIN_WEIGHT.value))


if __name__ == "__main__":
  cli.run(main, with_arguments=True)
