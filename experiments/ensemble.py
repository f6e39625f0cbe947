"""Mixes finished runs on the same data into one model, with weights fitted on the validation split.

  python -m experiments.ensemble --workdir=runs/ensemble runs/made_0 runs/made_1 runs/mixture_0

log p(x) = logsumexp_k (log w_k + log p_k(x)): a mixture of the runs' distributions, and so a distribution. The weights
are the maximum-likelihood ones on the validation split (EM; a convex problem); the test split plays no part. The result
is a workdir like any other: evaluate, sample and leaderboard take it.

Runs on the same data are those whose splits hold the same examples; names of files and the order of the runs don't
matter. The number of a mixture is exact or a bound where those of its runs may be mixed (see `gdm.likelihood.mix`), and
an estimate otherwise, as of diffusion models by their bounds.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import flags
from jaxtyping import Float

from experiments import cli
from gdm.baselines.ensemble import Ensemble
from gdm.data.loader import eval_batches
from gdm.errors import ConfigError
from gdm.evaluation.likelihood import SplitLikelihood, evaluate_likelihood
from gdm.model import Carry, HasLogLikelihood, Model, Params
from gdm.runs.composition import composed_config, load_runs, require_free, require_same_data, write_run
from gdm.runs.load import TrainedRun
from gdm.runs.registry import build_model
from gdm.runs.scoring import scored_by
from gdm.runs.workdir import Workdir
from gdm.training.streams import stream_key

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the ensemble; made if absent.")
_WEIGHTS = flags.DEFINE_enum("weights", "valid", ["valid", "uniform"], "Fitted on the validation split, or all equal.")
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
  _require_same_given(paths, runs)
  settings = _evaluation_settings(paths, runs)
  _build(paths, runs, settings, ())  # which says whether there can be such a model
  scores = [_on_validation(run, settings, run.model, run.params, run.carry) for run in runs]
  nats = np.stack([score.nats for score in scores])
  weights = np.full(len(runs), 1.0 / len(runs))
  if _WEIGHTS.value == "valid":
    weights = fit_weights(nats)
    kept = np.flatnonzero(weights >= min(_MIN_WEIGHT.value, weights.max()))
    runs, paths, scores, nats = [runs[k] for k in kept], [paths[k] for k in kept], [scores[k] for k in kept], nats[kept]
    weights = fit_weights(nats)
  model, config = _build(paths, runs, settings, tuple(float(weight) for weight in weights))
  params, carry = model.join([(run.params, run.carry) for run in runs])
  mixed = _on_validation(runs[0], settings, model, params, carry)  # and so it can be scored before it is written
  for path, weight, score in zip(paths, weights, scores, strict=True):
    print(f"{weight:.4f}  {_text(score)}  {path}")
  print(f"        {_text(mixed)}  the mixture, on the validation split")
  if not write_run(workdir, config, runs, model, params, carry, mixed.nats_mean):
    print(f"{workdir.path} is finished already.")


def _text(score: SplitLikelihood) -> str:
  return f"{score.nats_mean:10.4f} nats ({score.kind.replace('_', ' ')})"


def _require_same_given(paths: Sequence[str], runs: Sequence[TrainedRun]) -> None:
  """Raise ConfigError unless all runs have a likelihood, and all are conditional on the same."""
  given = [_given(path, run) for path, run in zip(paths, runs, strict=True)]
  words = ["log p(x | {})".format(", ".join(names)) if names else "log p(x)" for names in given]
  for path, names, word in zip(paths, given, words, strict=True):
    if names != given[0]:
      raise ConfigError(f"{path} is a model of {word}, {paths[0]} of {words[0]}; an ensemble is of runs that are "
                        "conditional on the same.")


def _given(path: str, run: TrainedRun) -> tuple[str, ...]:
  """What a run's likelihood is given; nothing is computed but shapes."""
  model, given = run.model, []
  if not isinstance(model, HasLogLikelihood):
    raise ConfigError(f"{path} is of {run.config.model.name}, which has no log-likelihood to be mixed.")

  def traced(params, carry, batch, key):
    likelihood = model.log_likelihood(params, carry, batch, key)
    given.append(likelihood.given)
    return likelihood.nats

  jax.eval_shape(traced, run.params, run.carry, run.dataset.split("valid").rows(slice(0, 2)), jax.random.key(0))
  return given[0]


def _evaluation_settings(paths: Sequence[str], runs: Sequence[TrainedRun]) -> ml_collections.ConfigDict:
  """The `evaluation` section of the mixture: as many draws and samples as the run with the most has.

  Raises:
    ConfigError: runs are scored by different likelihoods.
  """
  sections = [run.config.evaluation for run in runs]
  settings = sections[0].copy_and_resolve_references()
  settings.num_draws = max(section.num_draws for section in sections)
  settings.num_samples = max(section.num_samples for section in sections)
  settings.batch_size = min(section.batch_size for section in sections)
  settings.likelihood = max(section.likelihood for section in sections)  # "" is the least
  settings.parameters = "auto"
  if {section.likelihood for section in sections} - {"", settings.likelihood}:
    raise ConfigError(_ways(paths, runs))
  return settings


def _ways(paths: Sequence[str], runs: Sequence[TrainedRun]) -> str:
  each = ", ".join(f"{run.config.evaluation.likelihood!r} in {path}" for path, run in zip(paths, runs, strict=True))
  return (f"evaluation.likelihood is {each}; an ensemble has one for all of its runs that have several, with the same "
          "settings.")


def _build(paths: Sequence[str], runs: Sequence[TrainedRun], settings: ml_collections.ConfigDict,
           weights: tuple[float, ...]) -> tuple[Ensemble, ml_collections.ConfigDict]:
  """Return the ensemble of the runs' models, as it is read back from its config, and that config.

  Raises:
    ConfigError: one `evaluation.likelihood` does not score each run as the run itself does.
  """
  config = composed_config(runs, {"name": "ensemble", "weights": weights})
  config.evaluation = settings
  plain = build_model(config.model.to_dict(), runs[0].dataset.spec)
  try:
    model = scored_by(plain, settings.likelihood)
  except ConfigError as error:
    raise ConfigError(_ways(paths, runs)) from error
  if not isinstance(model, Ensemble) or model.components != tuple(run.model for run in runs):
    raise ConfigError(_ways(paths, runs))
  return model, config


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


def _on_validation(run: TrainedRun, settings: ml_collections.ConfigDict, model: Model, params: Params,
                   carry: Carry) -> SplitLikelihood:
  """The scores of the run's validation split."""
  return evaluate_likelihood(
      model, params, carry, eval_batches(run.dataset, "valid", settings.batch_size),
      key=stream_key(jax.random.key(run.config.seed), "validation", run.step), num_draws=settings.num_draws,
      num_samples=settings.num_samples)


if __name__ == "__main__":
  cli.run(main)
