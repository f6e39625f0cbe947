"""Mixes finished runs on the same data into one model, with weights fitted on the validation split.

  python -m experiments.ensemble --workdir=runs/ensemble runs/made_0 runs/made_1 runs/mixture_0

log p(x) = logsumexp_k (log w_k + log p_k(x)): a mixture of the runs' distributions, and so a distribution. The weights
are the maximum-likelihood ones on the validation split (EM; a convex problem); the test split plays no part. The result
is a workdir like any other: evaluate, sample and leaderboard take it.
"""

from collections.abc import Sequence

import jax
import numpy as np
from absl import flags
from jaxtyping import Float

from experiments import cli
from experiments.composition import load_runs, write_run
from experiments.trained import TrainedRun
from experiments.workdir import Workdir
from gdm.baselines.ensemble import Ensemble
from gdm.data.loader import eval_batches
from gdm.errors import ConfigError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.training.streams import stream_key

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the ensemble; made if absent.")
_WEIGHTS = flags.DEFINE_enum("weights", "valid", ["valid", "uniform"], "Fitted on the validation split, or all equal.")
_MIN_WEIGHT = flags.DEFINE_float("min_weight", 1e-3, "Runs of a smaller weight are left out.")


def main(argv: Sequence[str]) -> None:
  workdir = Workdir(cli.require_flag("workdir"))
  if not 0.0 <= _MIN_WEIGHT.value < 1.0:
    raise ConfigError(f"--min_weight is {_MIN_WEIGHT.value}; it must be in [0, 1).")
  paths = list(dict.fromkeys(argv[1:]))
  if len(paths) < 2:
    raise ConfigError(f"an ensemble mixes two runs or more, but {len(paths)} workdirs are named.")
  runs = load_runs(paths)
  nats = np.stack([_validation_nats(run) for run in runs])
  weights = np.full(len(runs), 1.0 / len(runs))
  if _WEIGHTS.value == "valid":
    weights = fit_weights(nats)
    kept = np.flatnonzero(weights >= min(_MIN_WEIGHT.value, weights.max()))
    runs, paths, nats = [runs[k] for k in kept], [paths[k] for k in kept], nats[kept]
    weights = fit_weights(nats)
  for path, weight, own in zip(paths, weights, nats, strict=True):
    print(f"{weight:.4f}  {own.mean():10.4f} nats  {path}")
  mixed = mixture_nats(nats, weights).mean()
  print(f"        {mixed:10.4f} nats  the mixture, on the validation split")
  shares = tuple(float(weight) for weight in weights)
  model = Ensemble(runs[0].dataset.spec, tuple(run.model for run in runs), shares)
  params, carry = model.join([(run.params, run.carry) for run in runs])
  write_run(workdir, runs, {"name": "ensemble", "weights": shares}, model, params, carry, float(mixed))


def fit_weights(nats: Float[np.ndarray, "models examples"], tolerance: float = 1e-9) -> Float[np.ndarray, " models"]:
  """The weights of the mixture under which the examples are likeliest, by EM from equal ones."""
  weights, last = np.full(len(nats), 1.0 / len(nats)), -np.inf
  while (score := mixture_nats(nats, weights).mean()) - last > tolerance:
    last = score
    # Bishop 2006, eq. 9.22 and 9.26: responsibilities, and their means.
    with np.errstate(divide="ignore"):
      weights = np.exp(np.log(weights)[:, None] + nats - mixture_nats(nats, weights)).mean(axis=1)
  return weights


def mixture_nats(nats: Float[np.ndarray, "models examples"],
                 weights: Float[np.ndarray, " models"]) -> Float[np.ndarray, " examples"]:
  """Log-likelihood in nats of each example under the mixture."""
  with np.errstate(divide="ignore"):
    return np.logaddexp.reduce(np.log(weights)[:, None] + nats, axis=0)


def _validation_nats(run: TrainedRun) -> Float[np.ndarray, " examples"]:
  settings = run.config.evaluation
  return evaluate_likelihood(
      run.model, run.params, run.carry, eval_batches(run.dataset, "valid", settings.batch_size),
      key=stream_key(jax.random.key(run.config.seed), "validation", run.step), num_draws=settings.num_draws,
      num_samples=settings.num_samples).nats


if __name__ == "__main__":
  cli.run(main)
