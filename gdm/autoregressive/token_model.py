"""The chain rule over the values of a discrete event in raster order, one after another: what models of sequences and
of images share.

log p(x) = sum_t log p(x_t | x_1, …, x_{t-1}), exactly and in one pass.
"""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.batches import nan_unless_valid, num_real, real_dims
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.inference import continuation
from gdm.inference.ancestral import ancestral
from gdm.inference.generation import Generated, TokenChoice
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Condition, LossOutput, Mean, Objective, Params, PyTree, Samples


@dataclasses.dataclass(frozen=True)
class TokenModel(abc.ABC):
  """A model of tokens: the integers in [0, levels) of a discrete event, flattened to [batch, num_dims].

  A subclass supplies the log-probabilities of all tokens in one pass (`log_probs`) and the same token by token
  (`init_cache`, `conditional_step`), through which sampling, completion, generation from prompts and coding go.

  Attributes:
    spec: the data; levels is the size of the vocabulary.
  """

  spec: DataSpec

  # What a model supplies.

  @property
  @abc.abstractmethod
  def context(self) -> int | None:
    """The longest sequence that steps can make; None where there is no limit."""

  @property
  @abc.abstractmethod
  def given(self) -> tuple[str, ...]:
    """Names of the batch's entries that the likelihood is conditional on."""

  @abc.abstractmethod
  def logits(self, params: Params, x: Num[Array, "batch steps"], key: Key[Array, ""] | None = None,
             y: Int[Array, " batch"] | None = None) -> Float[Array, "batch steps levels"]:
    """Return logits of each token given those before it in x, in one pass; a key means training."""

  @abc.abstractmethod
  def log_probs(self, params: Params, batch: Batch, key: Key[Array, ""] | None = None) -> Float[Array, "batch steps"]:
    """Return log p(x_t | x_1, …, x_{t-1}) in nats of each real token, 0 for padding; a key means training."""

  @abc.abstractmethod
  def init_cache(self, params: Params, num: int) -> PyTree:
    """Return the state of `conditional_step` before the first token, for `num` sequences."""

  @abc.abstractmethod
  def conditional_cache(self, params: Params, num: int, condition: Condition | None) -> PyTree:
    """Return `init_cache` of `num` sequences given a condition, as `sample` takes it.

    Raises:
      SpecError: a condition is given or missing against `given`, or has values that the data have not.
    """

  @abc.abstractmethod
  def conditional_step(self, params: Params, cache: PyTree, x_previous: Int[Array, " batch"],
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch levels"]]:
    """Return the next cache, and logits of the token at `index` given those before: `logits`, up to rounding.

    Args:
      params: the parameters.
      cache: from `init_cache`, `prefill` or the step before.
      x_previous: the token at position index - 1; ignored at index 0.
      index: steps come in order, from 0.
    """

  # What follows from it.

  @property
  def num_steps(self) -> int:
    """Tokens of an example, padding included."""
    return self.spec.num_dims

  @property
  def levels(self) -> int:
    """Size of the vocabulary."""
    return self.spec.require_discrete(type(self).__name__)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("model",), loss=self.loss, unit="nats per token"),)

  def real_tokens(self, batch: Batch) -> tuple[Bool[Array, "batch steps"], Int[Array, "batch steps"]]:
    """Return which tokens are no padding, and the tokens; padding may be anything, and becomes 0."""
    real = real_dims(self.spec, batch)
    return real, jnp.where(real, self.flatten(batch["x"]).astype(jnp.int32), 0)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the batch's mean negative log-likelihood of an example, in nats, over the constant num_dims.

    That is nats per token where every example is full, a scale that clipping and learning rates carry over on; with
    padding each real token still weighs the same, in every batch and micro-batch. Metrics: "nll" in nats per example,
    "nats_per_token" and "bits_per_dim" per real token.
    """
    nll = -jnp.sum(self.log_probs(params, batch, key), axis=1)
    tokens = jnp.sum(real_dims(self.spec, batch), dtype=jnp.float32)
    total = jnp.sum(nll, dtype=jnp.float32)
    metrics = {"nll": Mean.of(nll), "nats_per_token": Mean(total, tokens),
               "bits_per_dim": Mean(total / math.log(2.0), tokens)}
    return LossOutput(jnp.mean(nll) / self.num_steps, metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return the exact log-likelihood of the real tokens, which `num_dims` counts, conditional on `given`."""
    nats = jnp.sum(self.log_probs(params, batch), axis=1)
    return LogLikelihood(nan_unless_valid(self.spec, batch, nats, self.given), num_real(self.spec, batch), Kind.EXACT,
                         given=self.given)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> Samples:
    """Draw x [num, *event], all of full length.

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: what the model is `given`: labels [num], or one for all; prefixes [num, prefix_steps], or one for all,
        or None for no prefix where training withheld some; both by name, {"prefix": ..., "y": ...}.
      temperature, top_k, top_p: as in `gdm.inference.generation.TokenChoice`.

    Raises:
      ConfigError: an option outside its range.
      SpecError: a condition is given or missing against `given`, or has values that the data have not.
    """
    choice = TokenChoice(temperature, top_k, top_p)
    forced, known = jnp.zeros((self.num_steps, num), jnp.int32), np.zeros(self.num_steps, bool)
    return self.draw(params, self.conditional_cache(params, num, condition), key, forced, known, choice)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "..."], temperature: float = 1.0, top_k: int | None = None,
               top_p: float = 1.0) -> Samples:
    """Keep x where `known`, which must be concrete, and draw the rest given it, exactly.

    Raises:
      ConfigError: an option outside its range.
      SpecError: `known` is not a beginning of the sequence, in raster order.
    """
    given = np.asarray(known).reshape(-1)
    missing = int(np.argmin(np.append(given, False)))
    for late in np.flatnonzero(given[missing:])[:1] + missing:
      raise SpecError(f"known must be a beginning of the sequence, in raster order: position {late} is known, but "
                      f"position {missing} is not.")
    forced = self.flatten(x).astype(jnp.int32).T
    cache = self.init_cache(params, forced.shape[1])
    return self.draw(params, cache, key, forced, given, TokenChoice(temperature, top_k, top_p))

  def generate(self, params: Params, key: Key[Array, "..."], num: int | None = None, **options: Any) -> Generated:
    """Continue prompts, or draw `num` sequences from nothing; see `gdm.inference.continuation.generate`."""
    return continuation.generate(self, params, key, num, **options)

  def draw(self, params: Params, cache: PyTree, key: Key[Array, ""], forced: Int[Array, "steps batch"],
           known: Bool[np.ndarray, " steps"], choice: TokenChoice) -> Samples:
    """Draw x [batch, *event] token by token from `cache` on; where `known`, tokens are those of `forced`."""
    def step(cache, previous, index):
      return self.conditional_step(params, cache, previous, index)

    def draw(key, logits, index):
      return choice.draw(key, logits)

    x = ancestral(step, draw, cache, key, forced, known).T
    return Samples(x.reshape(-1, *self.spec.event), {"nfe": self.num_steps})

  def flatten(self, x: Num[Array | np.ndarray, "batch *event"]) -> Num[Array, "batch steps"]:
    return jnp.asarray(x).reshape(x.shape[0], -1)


def token_log_prob(logits: Float[Array, "*shape levels"], x: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return the log-probability of x under unnormalized logits, in nats; NaN for x outside [0, levels).

  As a masked sum, whose gradient is elementwise: the gradient of an indexed read is a scatter, which is slow on a CPU.
  """
  levels = logits.shape[-1]
  chosen = jnp.arange(levels) == x[..., None]
  log_prob = jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1) - jax.nn.logsumexp(logits, axis=-1)
  return jnp.where((x >= 0) & (x < levels), log_prob, jnp.nan)
