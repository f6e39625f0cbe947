"""What models of token sequences share: the chain rule over a sequence, one token after another.

log p(x) = sum_t log p(x_t | x_1, …, x_{t-1}), exactly and in one pass. A model supplies a network from each position's
previous token to its logits, and the same position by position (`init_cache`, `conditional_step`), through which
sampling, completion and generation from prompts go.
"""

import abc
import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.batches import nan_unless_valid, num_real, real_dims
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.inference import continuation
from gdm.inference.ancestral import ancestral
from gdm.inference.continuation import HasPrefill as HasPrefill
from gdm.inference.generation import Choice, Generated
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params, PyTree, Samples


@dataclasses.dataclass(frozen=True)
class SequenceModel(abc.ABC):
  """A model of sequences of tokens, or of any discrete event in raster order.

  Data: "x" [batch, *event] of integers in [0, levels), flattened to [batch, num_dims]; with "length" [batch], only the
  first `length` tokens are real (along the event's first axis), the likelihood is theirs, and padding changes nothing.

  The token before the first is `start` = levels, which a network embeds like any other: its embedding has levels + 1
  rows. So a window of T tokens scores T tokens.

  Attributes:
    spec: the data; levels is the size of the vocabulary.
  """

  spec: DataSpec

  def __post_init__(self) -> None:
    self.spec.require_discrete(type(self).__name__)

  # What a model supplies.

  @property
  @abc.abstractmethod
  def network(self) -> nn.Module:
    """`(previous [batch, steps], key or None) -> logits [batch, steps, levels]`; a key means training.

    Logits at a position depend on `previous` up to it and on nothing after; steps may be fewer than num_dims.
    """

  @abc.abstractmethod
  def init_cache(self, params: Params, num: int) -> PyTree:
    """The state of `conditional_step` before the first token, for `num` sequences."""

  @abc.abstractmethod
  def conditional_step(self, params: Params, cache: PyTree, x_previous: Int[Array, " batch"],
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch levels"]]:
    """Logits of the token at position `index`, given those before; the same as the network's, up to rounding.

    Args:
      params: the parameters.
      cache: from `init_cache`, `prefill` or the step before.
      x_previous: the token at position index - 1, ignored at index 0: see `fed`.
      index: steps come in order, from 0.
    """

  # What a model may supply.

  @property
  def context(self) -> int | None:
    """The longest sequence that steps can make; None where there is no limit."""
    return self.num_steps

  # `prefill`, see `HasPrefill`.

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
  def start(self) -> int:
    """The token that networks see before the first."""
    return self.levels

  def previous(self, x: Num[Array, "batch steps"]) -> Int[Array, "batch steps"]:
    """Each position's previous token: `x` moved one to the right, `start` in front."""
    return jnp.pad(x.astype(jnp.int32), ((0, 0), (1, 0)), constant_values=self.start)[:, :-1]

  def fed(self, x_previous: Int[Array, " batch"], index: Int[Array, ""]) -> Int[Array, " batch"]:
    """What the network sees in a step: the previous token, at index 0 `start`."""
    return jnp.where(index == 0, self.start, x_previous.astype(jnp.int32))

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("model",), loss=self.loss, unit="nats per token"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    del batch  # initialization sees no data
    variables = self.network.init(key, jnp.full((1, self.num_steps), self.start, jnp.int32), None)
    return {"model": variables["params"]}, {}

  def logits(self, params: Params, previous: Int[Array, "batch steps"],
             key: Key[Array, ""] | None = None) -> Float[Array, "batch steps levels"]:
    """Logits of all positions from their previous tokens, in one pass; a key means training."""
    logits: Any = self.network.apply({"params": params["model"]}, previous, key)
    return logits

  def real(self, batch: Batch) -> Bool[Array, "batch steps"]:
    """Which tokens are no padding."""
    return real_dims(self.spec, batch)

  def log_probs(self, params: Params, batch: Batch, key: Key[Array, ""] | None = None) -> Float[Array, "batch steps"]:
    """log p(x_t | x_1, …, x_{t-1}) in nats of each real token, 0 for padding; a key means training."""
    real = self.real(batch)
    # Padding may be anything, even outside the vocabulary.
    x = jnp.where(real, self._flatten(batch["x"]).astype(jnp.int32), 0)
    return jnp.where(real, log_prob_of(self.logits(params, self.previous(x), key), x), 0.0)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """The batch's mean negative log-likelihood of an example, in nats, over the constant num_dims.

    That is nats per token where every example is full, a scale that clipping and learning rates carry over on; with
    padding each real token still weighs the same, in every batch and micro-batch. Metrics: "nll" in nats per example,
    "nats_per_token" and "bits_per_dim" per real token.
    """
    nll = -jnp.sum(self.log_probs(params, batch, key), axis=1)
    tokens = jnp.sum(self.real(batch), dtype=jnp.float32)
    total = jnp.sum(nll, dtype=jnp.float32)
    metrics = {"nll": Mean.of(nll), "nats_per_token": Mean(total, tokens),
               "bits_per_dim": Mean(total / math.log(2.0), tokens)}
    return LossOutput(jnp.mean(nll) / self.num_steps, metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact, of the real tokens, which `num_dims` counts."""
    nats = nan_unless_valid(self.spec, batch, jnp.sum(self.log_probs(params, batch), axis=1))
    return LogLikelihood(nats, num_real(self.spec, batch), Kind.EXACT)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> Samples:
    """Draws x [num, *event], all of full length; options as in `gdm.inference.generation.Choice`.

    Raises:
      ConfigError: an option outside its range.
      SpecError: a condition is given; these models have none.
    """
    if condition is not None:
      raise SpecError(f"{type(self).__name__} is not conditional; condition must be None (`generate` takes prompts).")
    forced = jnp.zeros((self.num_steps, num), jnp.int32)
    return self._draw(params, key, forced, np.zeros(self.num_steps, bool), Choice(temperature, top_k, top_p))

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "..."], temperature: float = 1.0, top_k: int | None = None,
               top_p: float = 1.0) -> Samples:
    """Keeps x where `known`, which must be concrete, and draws the rest given it, exactly.

    Raises:
      ConfigError: an option outside its range.
      SpecError: `known` is not a beginning of the sequence, in raster order.
    """
    given = np.asarray(known).reshape(-1)
    missing = int(np.argmin(np.append(given, False)))
    for late in np.flatnonzero(given[missing:])[:1] + missing:
      raise SpecError(f"known must be a beginning of the sequence, in raster order: position {late} is known, but "
                      f"position {missing} is not.")
    forced = self._flatten(x).astype(jnp.int32).T
    return self._draw(params, key, forced, given, Choice(temperature, top_k, top_p))

  def generate(self, params: Params, key: Key[Array, "..."], num: int | None = None, **options: Any) -> Generated:
    """Continues prompts, or draws `num` sequences from nothing; see `gdm.inference.continuation.generate`."""
    return continuation.generate(self, params, key, num, **options)

  def _draw(self, params, key, forced, known, choice):
    def step(cache, previous, index):
      return self.conditional_step(params, cache, previous, index)

    def draw(key, logits, index):
      return choice.draw(key, logits)

    x = ancestral(step, draw, self.init_cache(params, forced.shape[1]), key, forced, known).T
    return Samples(x.reshape(-1, *self.spec.event), {"nfe": self.num_steps})

  def _flatten(self, x: Num[Array | np.ndarray, "batch *event"]) -> Num[Array, "batch steps"]:
    return jnp.asarray(x).reshape(x.shape[0], -1)


def log_prob_of(logits: Float[Array, "*shape levels"], x: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Log-probability of x under unnormalized logits, in nats; NaN for x outside [0, levels).

  As a masked sum, whose gradient is elementwise: that of an indexed read is a scatter, which is slow on a CPU.
  """
  levels = logits.shape[-1]
  chosen = jnp.arange(levels) == x[..., None]
  log_prob = jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1) - jax.nn.logsumexp(logits, axis=-1)
  return jnp.where((x >= 0) & (x < levels), log_prob, jnp.nan)
