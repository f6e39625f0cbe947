"""The log-likelihood of a split: every example scored exactly once, and what kind of number that is.

A model is asked by protocol: one that has `log_likelihood` is asked for it; one that only knows its log-probability up
to a constant is scored with one log Z for the whole split. Nats are averaged over repeats of what is random, and
nothing else is averaged: tightening a bound is the model's own business (`num_samples`).
"""

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from gdm import mesh as meshes
from gdm.batches import nan_unless_valid, num_real
from gdm.errors import ConfigError, DataError
from gdm.evaluation.intervals import NORMAL_975
from gdm.evaluation.split_likelihood import LogZ, SplitLikelihood
from gdm.likelihood import Kind, LogLikelihood, LogNormalizer, require_finite
from gdm.model import (
    Carry,
    HasAnomalyScore,
    HasDenoise,
    HasLabelProbs,
    HasLatent,
    HasLogLikelihood,
    HasSample,
    HasUnnormalized,
    HasValidation,
    Model,
    Params,
)
from gdm.precision import highest_precision

T = TypeVar("T")
HostBatch = Mapping[str, np.ndarray | Array]
MAX_EXAMPLES = 2048  # that log Z is held against; up to twice as many where a split has more


@highest_precision()
def evaluate_likelihood(model: Model, params: Params, carry: Carry, batches: Iterable[HostBatch], *,
                        key: Key[Array, ""], num_draws: int = 1, num_samples: int = 1,
                        num_examples: int | None = None, mesh: Mesh | None = None) -> SplitLikelihood:
  """Score every example of `batches` exactly once, with products of the highest precision.

  Args:
    model: a model with `log_likelihood`, or with `unnormalized_log_prob` and `log_normalizer`. One with both is scored
      by its exact log Z where it has one, else from both sides: its own log-likelihood, and as an alternative that by
      log Z.
    params: its parameters.
    carry: its carry.
    batches: one pass over the split, batches of one size; entries where "mask" is 0 are padding and are not scored.
    key: draw d of batch b uses `fold_in(fold_in(key, d), b)`.
    num_draws: repeats of what is random; nats are averaged. Exact models are asked once.
    num_samples: handed to the model's `log_likelihood`, to tighten its bound.
    num_examples: size of the split, where it is known, to be held against what `batches` served.
    mesh: devices to split each batch over, those of `params`; by default one device. Of several processes, each serves
      the rows of every batch that its devices hold (`gdm.mesh.local_rows`), and all get the whole result.

  Raises:
    ConfigError: the model cannot score data, a number of repeats is below 1, or the devices cannot share a batch.
    DataError: the split is empty or of another size than `num_examples`.
    NotFiniteError: an example's log-likelihood (its index is named) or log Z is NaN or infinite.
  """
  for name, value in (("num_draws", num_draws), ("num_samples", num_samples)):
    if value < 1:
      raise ConfigError(f"evaluation.{name} is {value}; it must be at least 1.")
  mesh = mesh or meshes.make_mesh(devices=jax.local_devices()[:1])
  for protocol, evaluate in _WAYS:
    if isinstance(model, protocol):
      with jax.set_mesh(mesh):
        result = evaluate(model, params, carry, _placed(batches, mesh), key, num_draws, num_samples)
      break
  else:
    instead = [words for protocol, words in _INSTEAD if isinstance(model, protocol)]
    raise ConfigError(f"{type(model).__name__} has no likelihood to evaluate: it offers neither log_likelihood nor "
                      "unnormalized_log_prob with log_normalizer"
                      + (f". What it has: {', '.join(instead)}." if instead else "."))
  if num_examples not in (None, result.num_examples):
    raise DataError(f"{result.num_examples} examples were scored, but the split has {num_examples}; every example "
                    "must be scored exactly once.")
  return result


def _placed(batches: Iterable[HostBatch], mesh: Mesh) -> Iterator[HostBatch]:
  """Return the batches on the devices of `mesh`, each with a mask."""
  sharding = meshes.batch_sharding(mesh, leading_axes=0)
  for batch in batches:
    meshes.require_divisible(mesh, meshes.whole_batch_size(mesh, len(batch["x"])), "evaluation.batch_size")
    yield meshes.put_batch({"mask": np.ones(len(batch["x"]), np.float32), **batch}, sharding)


# Model and num_samples are static, so that repeated evaluations of one model (validation in training) compile once.
@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def _log_likelihood(model: Any, params, carry, batch, key, draw, index, num_samples) -> "_Scored":
  key = jax.random.fold_in(jax.random.fold_in(key, draw), index)
  return _everywhere(model, batch, model.log_likelihood(params, carry, batch, key, num_samples))


@functools.partial(jax.jit, static_argnames=("model",))
def _unnormalized(model: Any, params, carry, batch) -> "_Scored":
  score = LogLikelihood.of(model.unnormalized_log_prob(params, carry, batch), model.spec.num_dims)
  whole = jax.lax.with_sharding_constraint(jnp.asarray(batch["x"]), PartitionSpec())
  return _everywhere(model, batch, score)._replace(x=whole)


class _Scored(NamedTuple):
  """A batch's scores, which rows are real, and where examples have lengths how many dimensions of each are; with the
  examples themselves where log Z is to be held against them."""

  score: LogLikelihood
  mask: Array
  num_real: Array | None
  x: Array | None = None


def _everywhere(model: Any, batch: HostBatch, score: LogLikelihood) -> _Scored:
  """Results that each process fetches whole, wherever the rows were computed.

  Whatever the model makes of an example that its spec does not allow, it has no likelihood.
  """
  nats = nan_unless_valid(model.spec, batch, score.nats, score.given)
  lengths = num_real(model.spec, batch) if "length" in batch else None
  scored = _Scored(dataclasses.replace(score, nats=nats), jnp.asarray(batch["mask"]), lengths)
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), scored)


def _evaluate_normalized(model: Any, params: Params, carry: Carry, batches: Iterable[HostBatch], key: Key[Array, ""],
                         num_draws: int, num_samples: int) -> SplitLikelihood:
  def score(batch, draw, index):
    return _log_likelihood(model, params, carry, batch, key, draw, index, num_samples)

  scores, details, error = _score(score, batches, num_draws)
  scores = scores._replace(kind=scores.kind.within(error))
  return scores.of_split(model, details=details, normalizer_stderr=error)


def _evaluate_both(model: Any, params: Params, carry: Carry, batches: Iterable[HostBatch], key: Key[Array, ""],
                   num_draws: int, num_samples: int) -> SplitLikelihood:
  if normalizer_kinds(model, params, carry, key)[0] is Kind.EXACT:
    return _evaluate_unnormalized(model, params, carry, batches, key, num_draws, num_samples)
  for_own, for_log_z = itertools.tee(batches)
  own = _evaluate_normalized(model, params, carry, for_own, key, num_draws, num_samples)
  by_log_z = _evaluate_unnormalized(model, params, carry, for_log_z, key, num_draws, num_samples)
  others = (dataclasses.replace(by_log_z, alternatives=()), *by_log_z.alternatives)
  return dataclasses.replace(own, alternatives=others)


def normalizer_kinds(model: HasUnnormalized, params: Params, carry: Carry, key: Key[Array, ""]) -> list[Kind]:
  """Return the kinds of a model's estimates of log Z; nothing is computed but shapes."""
  kinds = []

  def traced(params, carry, key):
    kinds.extend(normalizer.kind for normalizer in model.log_normalizer(params, carry, key))
    return ()

  jax.eval_shape(traced, params, carry, key)
  return kinds


def _evaluate_unnormalized(model: Any, params: Params, carry: Carry, batches: Iterable[HostBatch], key: Key[Array, ""],
                           num_draws: int, num_samples: int) -> SplitLikelihood:
  del num_draws, num_samples  # the scores are deterministic, and log Z has settings of its own
  highest = _Highest()

  def score(batch, draw, index):
    return _unnormalized(model, params, carry, batch)

  scores, _, _ = _score(score, batches, num_draws=1, look=highest.add)
  normalizers = model.log_normalizer(params, carry, jax.random.fold_in(key, zlib.crc32(b"log_normalizer")), highest.x)
  first, *others = (_normalize(scores, normalizer, model) for normalizer in normalizers)
  return dataclasses.replace(first, alternatives=tuple(others))


class _Highest:
  """Examples of all of a split at which log Z is held against it: all of a few; of more the higher of neighbours.

  One log Z is for all examples, so that no batch's may be left out: a peak at any of them that log Z does not count
  makes its score too high, and all others too.
  """

  def __init__(self) -> None:
    self._held: list[tuple[np.ndarray, np.ndarray]] = []
    self._num = 0

  def add(self, nats: Float[np.ndarray, " batch"], x: np.ndarray) -> None:
    """Take examples with their log f."""
    self._held.append((nats, x))
    self._num += len(nats)
    while self._num > 2 * MAX_EXAMPLES:
      nats, x = self._joined()
      pairs = nats[:len(nats) // 2 * 2].reshape(-1, 2)
      taken = np.concatenate([2 * np.arange(len(pairs)) + np.argmax(pairs, axis=1),
                              np.arange(2 * len(pairs), len(nats))])
      self._held, self._num = [(nats[taken], x[taken])], len(taken)

  @property
  def x(self) -> np.ndarray:
    """The examples, in the split's order; at most 2 MAX_EXAMPLES."""
    return self._joined()[1]

  def _joined(self) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([nats for nats, _ in self._held]), np.concatenate([x for _, x in self._held])


def _normalize(scores: "_Scores", normalizer: LogNormalizer, model: Any) -> SplitLikelihood:
  log_z = LogZ.of(normalizer)
  scores = scores._replace(nats=scores.nats - log_z.nats, kind=scores.kind + -log_z.kind)
  # One number for what takes no interval: as large as the wider side asks for.
  stderr = max(log_z.stderr, max(log_z.ci95[1] - log_z.nats, log_z.nats - log_z.ci95[0]) / NORMAL_975)
  return scores.of_split(model, normalizer_stderr=stderr, log_z=log_z)


@runtime_checkable
class _HasBoth(HasLogLikelihood, HasUnnormalized, Protocol):
  """Can score data by itself, from below say, and up to a constant."""


# The first protocol that a model has decides: its own log-likelihood is worth more than one by an estimated log Z.
_WAYS: tuple[tuple[type, Callable[..., SplitLikelihood]], ...] = (
    (_HasBoth, _evaluate_both),
    (HasLogLikelihood, _evaluate_normalized),
    (HasUnnormalized, _evaluate_unnormalized),
)


# What a model without a likelihood may have instead.
_INSTEAD = (
    (HasValidation, "numbers of each validation in metrics.jsonl"),
    (HasLabelProbs, "p(y | x) (experiments.evaluate)"),
    (HasSample, "samples (experiments.sample), whose quality experiments.quality measures"),
    (HasLatent, "latents (experiments.latent)"),
    (HasDenoise, "denoising (experiments.sample --denoise)"),
    (HasAnomalyScore, "anomaly scores (experiments.outliers)"),
)


class _Scores(NamedTuple):
  """Results that all ways to score a split share; see SplitLikelihood."""

  nats: np.ndarray
  num_dims: np.ndarray
  kind: Kind
  given: tuple[str, ...]
  num_draws: int
  dtype: str

  def of_split(self, model: Any, **fields: Any) -> SplitLikelihood:
    return SplitLikelihood(**self._asdict(), discrete=model.spec.is_discrete, **fields)


def _score(score: Callable[[HostBatch, int, int], _Scored], batches: Iterable[HostBatch], num_draws: int,
           look: Callable[[np.ndarray, np.ndarray], None] | None = None) -> tuple[_Scores, dict[str, float], float]:
  """Run `score(batch, draw, batch index)` over the split; sums on the host in float64, padding left out.

  With the scores come the means of their details, and the largest numerical error of any. `look` is given each batch's
  scores and examples.
  """
  nats, num_dims, kind, given, repeats, dtype, count, worst = [], [], Kind.EXACT, (), 1, "", 0, 0.0
  details: dict[str, list[np.ndarray]] = {}
  for scored in _one_late(_dispatch(score, batches, num_draws)):
    draws, real = [draw.score for draw in scored], np.asarray(scored[0].mask) > 0
    values = np.stack([np.asarray(draw.nats, np.float64)[real] for draw in draws])
    for number, (draw, value) in enumerate(zip(draws, values, strict=True), start=1):
      more = {name: np.asarray(detail, np.float64)[real] for name, detail in draw.details.items()}
      require_finite(value, count, f"log-likelihood (draw {number} of {len(draws)})" if len(draws) > 1 else
                     "log-likelihood", more)
      for name, detail in more.items():
        details.setdefault(name, []).append(detail)
    for error in (np.asarray(draw.error, np.float64)[real] for draw in draws if draw.error is not None):
      require_finite(error, count, "numerical error of the log-likelihood")
      worst = max(worst, float(np.max(error, initial=0.0)))
    nats.append(np.mean(values, axis=0))
    if look is not None and scored[0].x is not None:
      look(nats[-1], np.asarray(scored[0].x)[real])
    num_dims.append(np.asarray(draws[0].num_dims, np.int64)[real])
    if scored[0].num_real is not None:
      _require_real(num_dims[-1], np.asarray(scored[0].num_real)[real], count)
    kind, given, repeats = kind + draws[0].kind, draws[0].given, max(repeats, len(draws))
    dtype = str(draws[0].nats.dtype)
    count += values.shape[1]
  if count == 0:
    raise DataError("the split to evaluate has no examples; it must have at least one.")
  means = {name: float(np.mean(np.concatenate(parts))) for name, parts in details.items()}
  return _Scores(np.concatenate(nats), np.concatenate(num_dims), kind, given, repeats, dtype), means, worst


def _require_real(num_dims: Int[np.ndarray, " batch"], num_real: Int[np.ndarray, " batch"], first: int) -> None:
  """Raise DataError naming the first example of which a model scored other dimensions than the real ones."""
  for row in np.flatnonzero(num_dims != num_real)[:1]:
    raise DataError(f"the model scored {num_dims[row]} dimensions of example {first + row}, of which {num_real[row]} "
                    "are real: it takes padding for data; choose a model of sequences, which heeds their lengths.")


def _dispatch(score: Callable[[HostBatch, int, int], _Scored], batches: Iterable[HostBatch],
              num_draws: int) -> Iterator[list[_Scored]]:
  """Yield, per batch, one result per draw, still on its way on the device."""
  for index, batch in enumerate(batches):
    first = score(batch, 0, index)
    repeats = 1 if first.score.kind is Kind.EXACT else num_draws
    yield [first, *(score(batch, draw, index) for draw in range(1, repeats))]


def _one_late(items: Iterable[T]) -> Iterator[T]:
  """Return the same items, each handed on when its successor was dispatched: the device works while the host
  fetches."""
  held: list[T] = []
  for item in items:
    yield from held
    held = [item]
  yield from held
