"""Mixtures of finished runs, of whole examples or token by token: what they must have in common, their weights, and the
model they make."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from jaxtyping import Float

from gdm.autoregressive.token_ensemble import TokenEnsemble
from gdm.baselines.ensemble import Ensemble
from gdm.batches import padded_size, real_dims
from gdm.data.loader import eval_batches
from gdm.errors import ConfigError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.model import Carry, HasLogLikelihood, Model, Params
from gdm.precision import at_highest_precision
from gdm.runs.registry import build_model
from gdm.runs.scoring import scored_by
from gdm.runs.trained import TrainedRun
from gdm.runs.workdir import Workdir
from gdm.studies.composition import composed_config, load_runs, require_free, require_same_data, write_run
from gdm.training.streams import stream_key


@at_highest_precision
def mix_runs(place: str, named: Sequence[str], *, is_fitted: bool = True, by_tokens: bool = False, num_samples: int = 0,
             min_weight: float = 1e-3) -> Iterator[str]:
  """Mix finished runs on the same data into one in a workdir of its own; yield a line about each, and the mixture.

  Args:
    place: the mixture's workdir, a fresh one or that of the same mixture.
    named: workdirs of two runs or more; their order changes nothing.
    is_fitted: whether weights are fitted on the validation split, or all equal.
    by_tokens: whether every conditional is mixed, in place of whole examples.
    num_samples: importance samples of the bounds that weights are fitted on; 0 for as many as the run with the most.
    min_weight: runs of a smaller fitted weight are left out.

  Raises:
    ConfigError: an argument out of its range, or runs that cannot be mixed.
    WorkdirError: a run is not finished, or the workdir holds something else.
    SpecError: a run has no tokens in raster order, which are to be mixed.
  """
  workdir = Workdir(place)
  if not 0.0 <= min_weight < 1.0:
    raise ConfigError(f"--min_weight is {min_weight}; it must be in [0, 1).")
  # In the order of their paths, so that the order in which they are named changes nothing, not even draws.
  resolved = {Path(path).resolve(): path for path in reversed(named)}
  paths = [resolved[path] for path in sorted(resolved)]
  if len(paths) < 2:
    raise ConfigError(f"an ensemble mixes two runs or more, but {len(paths)} workdirs are named.")
  name = "token_ensemble" if by_tokens else "ensemble"
  require_free(workdir, name, paths)
  runs = load_runs(paths)
  require_same_data(paths, runs)
  require_same_given(paths, runs)
  if num_samples < 0:
    raise ConfigError(f"--num_samples is {num_samples}; it must be at least 1, or 0 for what the runs have.")
  settings = evaluation_settings(paths, runs)
  settings.num_samples = num_samples or settings.num_samples
  model, _ = build_mixture(paths, runs, settings, (), name)  # which says whether there can be such a model
  scores = [score_validation(run, settings, run.model, run.params, run.carry) for run in runs]
  nats = np.stack([score.nats for score in scores])
  if isinstance(model, TokenEnsemble):
    params, _ = model.join([(run.params, run.carry) for run in runs])
    nats = token_nats(model, params, runs[0], settings.batch_size)
  weights = np.full(len(runs), 1.0 / len(runs))
  if is_fitted:
    weights = fit_weights(nats)
    heavy = np.flatnonzero(weights >= min(min_weight, weights.max()))
    runs, paths, scores = [runs[k] for k in heavy], [paths[k] for k in heavy], [scores[k] for k in heavy]
    weights = fit_weights(nats[heavy])
  model, config = build_mixture(paths, runs, settings, tuple(float(weight) for weight in weights), name)
  params, carry = model.join([(run.params, run.carry) for run in runs])
  mixed = score_validation(runs[0], settings, model, params, carry)  # and so it can be scored before it is written
  for path, weight, score in zip(paths, weights, scores, strict=True):
    yield f"{weight:.4f}  {_score_text(score)}  {path}"
  yield f"        {_score_text(mixed)}  the mixture, on the validation split"
  if not write_run(workdir, config, runs, model, params, carry, mixed.nats_mean):
    yield f"{workdir.path} is finished already."


def _score_text(score: SplitLikelihood) -> str:
  return f"{score.nats_mean:10.4f} nats ({score.kind.replace('_', ' ')})"


def require_same_given(paths: Sequence[str], runs: Sequence[TrainedRun]) -> None:
  """Raise ConfigError unless all runs have a likelihood, and all are conditional on the same."""
  given = [_given(path, run) for path, run in zip(paths, runs, strict=True)]
  words = ["log p(x | {})".format(", ".join(names)) if names else "log p(x)" for names in given]
  for path, names, word in zip(paths, given, words, strict=True):
    if names != given[0]:
      raise ConfigError(f"{path} is a model of {word}, {paths[0]} of {words[0]}; an ensemble is of runs that are "
                        "conditional on the same.")


def _given(path: str, run: TrainedRun) -> tuple[str, ...]:
  """Return what a run's likelihood is conditional on; nothing is computed but shapes."""
  model, given = run.model, []
  if not isinstance(model, HasLogLikelihood):
    raise ConfigError(f"{path} is of {run.config.model.name}, which has no log-likelihood to be mixed.")

  def traced(params, carry, batch, key):
    likelihood = model.log_likelihood(params, carry, batch, key)
    given.append(likelihood.given)
    return likelihood.nats

  jax.eval_shape(traced, run.params, run.carry, run.dataset.split("valid").rows(slice(0, 2)), jax.random.key(0))
  return given[0]


def evaluation_settings(paths: Sequence[str], runs: Sequence[TrainedRun]) -> ml_collections.ConfigDict:
  """Return the `evaluation` section of the mixture: as many draws and samples as the run with the most has.

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


def build_mixture(paths: Sequence[str], runs: Sequence[TrainedRun], settings: ml_collections.ConfigDict,
                  weights: tuple[float, ...], name: str = "ensemble"
                  ) -> tuple[Ensemble | TokenEnsemble, ml_collections.ConfigDict]:
  """Return the ensemble of the runs' models, as it is read back from its config, and that config.

  Args:
    paths, runs: what is mixed.
    settings: the `evaluation` section.
    weights: of the runs; () gives all the same.
    name: "ensemble", of whole examples, or "token_ensemble", token by token.

  Raises:
    ConfigError: one `evaluation.likelihood` does not score each run as the run itself does.
    SpecError: a run has no tokens in raster order, which are to be mixed.
  """
  config = composed_config(runs, {"name": name, "weights": weights})
  config.evaluation = settings
  plain = build_model(config.model.to_dict(), runs[0].spec)
  try:
    model = scored_by(plain, settings.likelihood)
  except ConfigError as error:
    raise ConfigError(_ways(paths, runs)) from error
  if not isinstance(model, (Ensemble, TokenEnsemble)) or model.components != tuple(run.model for run in runs):
    raise ConfigError(_ways(paths, runs))
  return model, config


def fit_weights(nats: Float[np.ndarray, "models examples"], tolerance: float = 1e-9) -> Float[np.ndarray, " models"]:
  """Return the weights of the mixture under which the examples are likeliest, by EM from equal ones."""
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


def token_nats(model: TokenEnsemble, params: Params, run: TrainedRun, batch_size: int
               ) -> Float[np.ndarray, "models tokens"]:
  """Return the log-probability in nats of every real token of the run's validation split, by each component."""
  score = jax.jit(lambda params, batch: model.component_log_probs(params, batch))
  found = []
  for batch in eval_batches(run.dataset, "valid", padded_size(run.dataset.num_examples("valid"), batch_size)):
    real = np.asarray(real_dims(model.spec, batch)) & (batch["mask"] > 0)[:, None]
    found.append(np.stack([np.asarray(nats)[real] for nats in score(params, batch)]))
  return np.concatenate(found, axis=1).astype(np.float64)


def score_validation(run: TrainedRun, settings: ml_collections.ConfigDict, model: Model, params: Params,
                   carry: Carry) -> SplitLikelihood:
  """Return the scores of the run's validation split."""
  size = padded_size(run.dataset.num_examples("valid"), settings.batch_size)
  return evaluate_likelihood(
      model, params, carry, eval_batches(run.dataset, "valid", size),
      key=stream_key(jax.random.key(run.config.seed), "validation", run.step), num_draws=settings.num_draws,
      num_samples=settings.num_samples)
