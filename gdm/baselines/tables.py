"""Conditional probability tables: one row of a table for every setting of a dimension's parents.

Bayesian networks, Markov chains and Chow-Liu trees are the same object, a table per dimension, and differ in who the
parents are. All tables are stacked in one array [rows, levels], and a `Layout` says which row an example falls into.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from gdm.distributions import categorical
from gdm.errors import SpecError

MAX_CELLS = 2**26  # 256 MiB of float32


class Layout(NamedTuple):
  """The place of each dimension's table: its row is `offsets + sum_j x[parents_j] * strides_j`.

  Attributes:
    parents: [dims, arity], padded with 0.
    strides: [dims, arity]: levels^j for the j-th parent, 0 for padding.
    offsets: [dims], the first row of the dimension's table. Dimensions may share a table.
    sizes: [dims], the number of its rows.
  """

  parents: Int[Array, "dims arity"] | np.ndarray
  strides: Int[Array, "dims arity"] | np.ndarray
  offsets: Int[Array, " dims"] | np.ndarray
  sizes: Int[Array, " dims"] | np.ndarray

  @property
  def num_rows(self) -> int:
    return int(np.max(np.asarray(self.offsets) + np.asarray(self.sizes)))


@functools.lru_cache(maxsize=64)
def layout_of(parents: tuple[tuple[int, ...], ...], levels: int, shared: tuple[int, ...] | None = None) -> Layout:
  """Return the layout of tables for given parents.

  Args:
    parents: per dimension its parents, the most telling first (smoothing drops the last first).
    levels: values of every dimension.
    shared: per dimension the number of its table; dimensions of one number share it. By default each has its own.

  Raises:
    SpecError: when the tables would have more than `MAX_CELLS` cells.
  """
  shared = tuple(range(len(parents))) if shared is None else shared
  sizes = [levels**len(p) for p in parents]
  size_of = dict(zip(shared, sizes, strict=True))
  cells = sum(size_of.values()) * levels
  if cells > MAX_CELLS:
    raise SpecError(f"tables of {levels} levels with up to {max(map(len, parents))} parents need {cells} cells, more "
                    f"than {MAX_CELLS}; use fewer parents (a lower order), or a `quantize` or `binarize` transform.")
  first, start = 0, {}
  for number, size in size_of.items():
    start[number] = first
    first += size
  arity = max(map(len, parents))
  padded = np.zeros((len(parents), arity), np.int32)
  strides = np.zeros((len(parents), arity), np.int32)
  for dim, own in enumerate(parents):
    padded[dim, :len(own)] = own
    strides[dim, :len(own)] = levels**np.arange(len(own))
  offsets = np.asarray([start[number] for number in shared], np.int32)
  return Layout(padded, strides, offsets, np.asarray(sizes, np.int32))


def rows_of(layout: Layout, x: Int[Array, "batch dims"]) -> Int[Array, "batch dims"]:
  """Return the row of each dimension's table that an example falls into."""
  return jnp.asarray(layout.offsets) + jnp.sum(x[:, layout.parents] * layout.strides, axis=-1)


def log_probs(layout: Layout, logits: Float[Array, "rows levels"],
              x: Int[Array, "batch dims"]) -> Float[Array, "batch dims"]:
  """Return log p(x_d | x_parents(d)) of every dimension, in nats; rows of `logits` are normalized."""
  return logits[rows_of(layout, x), x]


def log_prob(layout: Layout, logits: Float[Array, "rows levels"],
             x: Int[Array, "batch dims"]) -> Float[Array, " batch"]:
  """Return log p(x) = sum_d log p(x_d | x_parents(d)), in nats; rows of `logits` are normalized."""
  return jnp.sum(log_probs(layout, logits, x), axis=-1)


def counts(layout: Layout, levels: int, x: Int[Array, "batch dims"],
           weight: Float[Array, "batch #dims"] | Float[Array, " batch"]) -> Float[Array, "rows levels"]:
  """Count how often each cell occurs in a batch, by the weights of examples or of their dimensions."""
  cells = rows_of(layout, x) * levels + x
  spread = jnp.broadcast_to(weight.reshape(len(x), -1), cells.shape)
  return jnp.zeros(layout.num_rows * levels).at[cells].add(spread).reshape(layout.num_rows, levels)


def estimate(layout: Layout, counted: Float[np.ndarray, "rows levels"],
             alpha: float) -> Float[np.ndarray, "rows levels"]:
  """Log-probabilities of all tables from their counts, smoothed by `smooth`."""
  log_probs = np.empty(counted.shape, np.float32)
  for first, size in set(zip(layout.offsets.tolist(), layout.sizes.tolist(), strict=True)):
    log_probs[first:first + size] = np.log(smooth(counted[first:first + size], alpha))
  return log_probs


def smooth(counted: Float[np.ndarray, "rows levels"], alpha: float) -> Float[np.ndarray, "rows levels"]:
  """Posterior mean of a table under a hierarchical Dirichlet prior.

  Each row's prior has alpha pseudo-counts per level, spread as the same table without its last parent, and without any
  parent evenly (MacKay and Peto, A hierarchical Dirichlet language model, 1995, section 3, with one strength for all).
  So a row that was never seen says what its coarser context says, and every cell is above zero.
  """
  num_rows, levels = counted.shape
  if num_rows == 1:
    prior = np.full((1, levels), 1.0 / levels)
  else:
    # The last parent is the most significant digit of the row, so its levels are the leading blocks.
    prior = np.tile(smooth(counted.reshape(levels, -1, levels).sum(axis=0), alpha), (levels, 1))
  strength = alpha * levels
  return (counted + strength * prior) / (counted.sum(axis=-1, keepdims=True) + strength)


def ancestral(layout: Layout, logits: Float[Array, "rows levels"], order: Int[Array, " dims"] | np.ndarray,
              key: Key[Array, ""], x: Int[Array, "batch dims"], known: Bool[Array, " dims"] | np.ndarray,
              temperature: float = 1.0) -> Int[Array, "batch dims"]:
  """Draw every dimension that is not known from its row, parents first.

  Args:
    layout: where the tables lie.
    logits: the tables.
    order: the dimensions, every parent before its children.
    key: a random key.
    x: values of the known dimensions; the others are ignored.
    known: which dimensions are kept.
    temperature: divides the logits.
  """
  tables = jax.tree.map(jnp.asarray, layout)
  known = jnp.asarray(known)

  def draw(x, step):
    dim, key = step
    row = tables.offsets[dim] + jnp.sum(x[:, tables.parents[dim]] * tables.strides[dim], axis=-1)
    drawn = categorical.sample(key, logits[row], temperature)
    return x.at[:, dim].set(jnp.where(known[dim], x[:, dim], drawn)), None

  return jax.lax.scan(draw, x.astype(jnp.int32), (jnp.asarray(order), jax.random.split(key, len(order))))[0]


def require_alpha(alpha: float) -> None:
  """Raise a SpecError unless the pseudo-count keeps every probability above zero."""
  if not alpha > 0:
    raise SpecError(f"model.alpha is {alpha}; it must be above 0, so that every input keeps a finite likelihood.")
