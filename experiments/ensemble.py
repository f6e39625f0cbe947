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
from pathlib import Path

import numpy as np
from absl import flags

from experiments import cli
from gdm.autoregressive.token_ensemble import TokenEnsemble
from gdm.errors import ConfigError
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.runs.composition import load_runs, require_free, require_same_data, write_run
from gdm.runs.mixing import (
    build_mixture,
    evaluation_settings,
    fit_weights,
    require_same_given,
    score_validation,
    token_nats,
)
from gdm.runs.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the ensemble; made if absent.")
_WEIGHTS = flags.DEFINE_enum("weights", "valid", ["valid", "uniform"], "Fitted on the validation split, or all equal.")
_MIX = flags.DEFINE_enum("mix", "examples", ["examples", "tokens"], "What each probability that is mixed is of.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 0, "Importance samples of the bounds that weights are fitted on; 0 "
                                    "for as many as the run with the most.")
_MIN_WEIGHT = flags.DEFINE_float("min_weight", 1e-3, "Runs of a smaller weight are left out.")


def main(argv: Sequence[str]) -> None:
  workdir = Workdir(cli.require_flag("workdir"))
  if not 0.0 <= _MIN_WEIGHT.value < 1.0:
    raise ConfigError(f"--min_weight is {_MIN_WEIGHT.value}; it must be in [0, 1).")
  # In the order of their paths, so that the order in which they are named changes nothing, not even draws.
  named = {Path(path).resolve(): path for path in reversed(argv[1:])}
  paths = [named[path] for path in sorted(named)]
  if len(paths) < 2:
    raise ConfigError(f"an ensemble mixes two runs or more, but {len(paths)} workdirs are named.")
  require_free(workdir, "ensemble", paths)
  runs = load_runs(paths)
  require_same_data(paths, runs)
  require_same_given(paths, runs)
  if _NUM_SAMPLES.value < 0:
    raise ConfigError(f"--num_samples is {_NUM_SAMPLES.value}; it must be at least 1, or 0 for what the runs have.")
  settings = evaluation_settings(paths, runs)
  settings.num_samples = _NUM_SAMPLES.value or settings.num_samples
  name = "token_ensemble" if _MIX.value == "tokens" else "ensemble"
  model, _ = build_mixture(paths, runs, settings, (), name)  # which says whether there can be such a model
  scores = [score_validation(run, settings, run.model, run.params, run.carry) for run in runs]
  nats = np.stack([score.nats for score in scores])
  if isinstance(model, TokenEnsemble):
    params, _ = model.join([(run.params, run.carry) for run in runs])
    nats = token_nats(model, params, runs[0], settings.batch_size)
  weights = np.full(len(runs), 1.0 / len(runs))
  if _WEIGHTS.value == "valid":
    weights = fit_weights(nats)
    kept = np.flatnonzero(weights >= min(_MIN_WEIGHT.value, weights.max()))
    runs, paths, scores, nats = [runs[k] for k in kept], [paths[k] for k in kept], [scores[k] for k in kept], nats[kept]
    weights = fit_weights(nats)
  model, config = build_mixture(paths, runs, settings, tuple(float(weight) for weight in weights), name)
  params, carry = model.join([(run.params, run.carry) for run in runs])
  mixed = score_validation(runs[0], settings, model, params, carry)  # and so it can be scored before it is written
  for path, weight, score in zip(paths, weights, scores, strict=True):
    print(f"{weight:.4f}  {_text(score)}  {path}")
  print(f"        {_text(mixed)}  the mixture, on the validation split")
  if not write_run(workdir, config, runs, model, params, carry, mixed.nats_mean):
    print(f"{workdir.path} is finished already.")


def _text(score: SplitLikelihood) -> str:
  return f"{score.nats_mean:10.4f} nats ({score.kind.replace('_', ' ')})"


if __name__ == "__main__":
  cli.run(main)
