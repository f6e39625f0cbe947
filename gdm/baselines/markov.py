"""A Markov chain of order k along the flattened dimensions; of sequences with lengths, along what is real of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.baselines import examples, tables
from gdm.baselines.tabular import Tabular
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.inference import continuation
from gdm.inference.generation import Generated
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, Samples


@dataclasses.dataclass(frozen=True)
class MarkovChain(Tabular):
  """p(x) = prod_i p(x_i | x_{i-1}, ..., x_{i-k}). Parameters: "logits" [rows, levels], see `gdm.baselines.tables`.

  Attributes:
    spec: discrete data; an image is read row by row.
    order: k, the number of preceding dimensions that a dimension sees.
    homogeneous: one table for all positions i >= k (text, time series), instead of one per position.
    alpha: pseudo-counts per level, spread as the chain of order k - 1 does; see `tables.smooth`.
  """

  spec: DataSpec
  order: int = 1
  homogeneous: bool = False
  alpha: float = 1.0

  def __post_init__(self) -> None:
    tables.require_alpha(self.alpha)
    if self.order < 1:
      raise SpecError(f"model.order is {self.order}; a Markov chain needs at least 1 (`independent` is order 0).")
    _ = self.table_layout  # raises when the tables are too large

  @property
  def dims_in_order(self) -> Sequence[int]:
    return range(self.spec.num_dims)

  @property
  def table_layout(self) -> tables.Layout:
    parents = tuple(tuple(range(i - 1, max(i - self.order, 0) - 1, -1)) for i in range(self.spec.num_dims))
    shared = tuple(min(i, self.order) for i in range(self.spec.num_dims)) if self.homogeneous else None
    return tables.layout_of(parents, self.levels, shared)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x) in nats."""
    nats = tables.log_probs(self.table_layout, params["model"]["logits"], examples.flat(self.spec, batch))
    return examples.exact_of_real(self.spec, batch, nats)

  @property
  def num_steps(self) -> int:
    return self.spec.num_dims

  @property
  def context(self) -> int | None:
    """The longest sequence that steps can make; None, of a homogeneous chain, is no limit.

    Where no training example is longer than the order, no table is of as many predecessors as later steps have.
    """
    return None if self.homogeneous and self.order < self.num_steps else self.num_steps

  def generate(self, params: Params, key: Key[Array, "..."], num: int | None = None, **options: Any) -> Generated:
    """Continue prompts, or draws `num` sequences from nothing; see `gdm.inference.continuation.generate`."""
    return continuation.generate(self, params, key, num, **options)

  def init_cache(self, params: Params, num: int) -> Int[Array, " num"]:
    """Return the last k values of each example as one number, the newest its least significant digit; none yet."""
    return jnp.zeros(num, jnp.int32)

  def conditional_step(self, params: Params, cache: Int[Array, " batch"], x_previous: Int[Array, " batch"],
                       index: Int[Array, ""]) -> tuple[Int[Array, " batch"], Float[Array, "batch levels"]]:
    """Log-probabilities of the dimension at `index` given those before; see `gdm.model.HasConditionals`."""
    layout, states = jax.tree.map(jnp.asarray, self.table_layout), self.levels ** min(self.order, self.spec.num_dims)
    moved = (cache * self.levels + jnp.asarray(x_previous, jnp.int32)) % states
    state = jnp.where(index == 0, 0, moved)
    place = jnp.minimum(index, self.num_steps - 1)
    return state, params["model"]["logits"][layout.offsets[place] + jnp.minimum(state, layout.sizes[place] - 1)]

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Draw the unknown dimensions from their exact conditional; any region.

    Forward filtering, backward sampling with the time axis turned round (Scott, Bayesian methods for hidden Markov
    models, 2002, section 2.1): messages run from the last dimension to the first, draws from the first to the last.
    """
    layout, logits, levels = jax.tree.map(jnp.asarray, self.table_layout), params["model"]["logits"], self.levels
    flat, known = examples.flat(self.spec, {"x": x}), jnp.ravel(known)
    # A state is the last k values, the newest the least significant digit: the row of the table, as parents are listed.
    states = jnp.arange(levels ** min(self.order, self.spec.num_dims))
    following = (states[:, None] * levels + jnp.arange(levels)) % len(states)
    evidence = jnp.where(known[:, None, None] & (jnp.arange(levels) != flat.T[:, :, None]), -jnp.inf, 0.0)

    def table(dim):
      # The first k positions have fewer rows; states beyond them cannot be reached there.
      return logits[layout.offsets[dim] + jnp.minimum(states, layout.sizes[dim] - 1)]

    def backward(message, dim):
      joint = table(dim) + evidence[dim][:, None, :] + message[:, following]
      return jax.nn.logsumexp(joint, axis=-1), message

    def forward(state, step):
      dim, key, message = step
      logit = table(dim)[state] + evidence[dim] + jnp.take_along_axis(message, following[state], axis=1)
      value = jax.random.categorical(key, logit)
      return following[state, value], value

    dims = jnp.arange(self.spec.num_dims)
    _, messages = jax.lax.scan(backward, jnp.zeros((len(flat), len(states))), dims, reverse=True)
    start = jnp.zeros(len(flat), jnp.int32)
    _, values = jax.lax.scan(forward, start, (dims, jax.random.split(key, len(dims)), messages))
    return examples.as_samples(self.spec, values.T.astype(jnp.int32))
