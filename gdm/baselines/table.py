"""The full joint table: one probability for every state of a small discrete space."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.baselines import examples, tables
from gdm.baselines.solved import SolvedDiscrete
from gdm.dataspec import DataSpec
from gdm.distributions import categorical
from gdm.errors import SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, Samples


@dataclasses.dataclass(frozen=True)
class Table(SolvedDiscrete):
  """p(x) as one smoothed frequency per state. Parameters: log-probabilities "logits" [levels^dims].

  State x has index sum_d x_d levels^d.

  Attributes:
    spec: discrete data of few dimensions.
    alpha: pseudo-counts for each different state that was seen, spread over all states as the independent model does
      (after Witten and Bell, The zero-frequency problem, 1991, method C: how often something new turned up so far says
      how often it will).
    max_states: the largest table that is allowed.
  """

  spec: DataSpec
  alpha: float = 1.0
  max_states: int = 2**20

  def __post_init__(self) -> None:
    self.spec.require_whole("Table")
    tables.require_alpha(self.alpha)
    levels = self.spec.require_discrete("Table")
    if levels**self.spec.num_dims > self.max_states:
      raise SpecError(f"a full table of {self.spec.num_dims} dimensions with {levels} levels has "
                      f"{levels}^{self.spec.num_dims} states, more than model.max_states ({self.max_states}); take "
                      "fewer dimensions or levels, or another model.")

  @property
  def num_states(self) -> int:
    return self.levels**self.spec.num_dims

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return the uniform distribution."""
    return {"model": {"logits": jnp.full(self.num_states, -np.log(self.num_states), jnp.float32)}}, {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report=None) -> tuple[Params, Carry]:
    """Count every state in one pass and smooths towards the product of the marginals."""
    @jax.jit
    def count(x, weight):
      return jnp.zeros(self.num_states).at[self._index(x)].add(weight)

    counted = examples.accumulate(self.spec, count, batches)
    # C order makes the last axis the fastest, and dimension 0 is the fastest digit of the index.
    cube = counted.reshape((self.levels,) * self.spec.num_dims)
    log_prior = np.zeros(())
    for dim in range(self.spec.num_dims):
      others = tuple(axis for axis in range(cube.ndim) if axis != cube.ndim - 1 - dim)
      marginal = tables.smooth(cube.sum(axis=others)[None], self.alpha)[0]
      log_prior = np.log(marginal).reshape(-1, *(1,) * log_prior.ndim) + log_prior
    strength = self.alpha * np.count_nonzero(counted)
    smoothed = np.log(counted + strength * np.exp(log_prior.ravel())) - np.log(counted.sum() + strength)
    return {"model": {"logits": jnp.asarray(smoothed, jnp.float32)}}, {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x) in nats."""
    index = self._index(examples.flat(self.spec, batch))
    return examples.exact(self.spec, batch, params["model"]["logits"][index])

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw [num, *event] from p(x)^(1/temperature), normalized."""
    examples.check_options(condition, temperature, "Table")
    return self._draw(categorical.tempered(params["model"]["logits"], temperature), key, num)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Draw the unknown dimensions from their exact conditional; any region."""
    flat = examples.flat(self.spec, {"x": x})
    known = jnp.ravel(known)
    states = self._digits(jnp.arange(self.num_states))

    def one(indexed):
      key, example = indexed
      agrees = jnp.all(jnp.where(known, states == example, True), axis=-1)
      return jax.random.categorical(key, jnp.where(agrees, params["model"]["logits"], -jnp.inf))

    # One example at a time: the table itself is already as large as the memory should hold.
    index = jax.lax.map(one, (jax.random.split(key, len(flat)), flat))
    return examples.as_samples(self.spec, self._digits(index))

  def _draw(self, logits: Float[Array, " states"], key: Key[Array, ""], num: int) -> Samples:
    # By the inverse of the cumulative sum: Gumbel noise would be [num, states].
    cumulative = jnp.cumsum(jax.nn.softmax(logits))
    uniform = jax.random.uniform(key, (num,)) * cumulative[-1]
    index = jnp.minimum(jnp.searchsorted(cumulative, uniform, side="right"), self.num_states - 1)
    return examples.as_samples(self.spec, self._digits(index))

  def _index(self, x: Int[Array, "batch dims"]) -> Int[Array, " batch"]:
    return x @ jnp.asarray(self.levels ** np.arange(self.spec.num_dims), jnp.int32)

  def _digits(self, index: Int[Array, " num"]) -> Int[Array, "num dims"]:
    return index[:, None] // jnp.asarray(self.levels ** np.arange(self.spec.num_dims), jnp.int32) % self.levels
