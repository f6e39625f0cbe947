"""Blocks of mutually exclusive binary dimensions: one categorical over a block's members and "none", in nats.

Any other pattern has probability too: with weight `fallback` the block follows Laplace's rule of succession, by which a
pattern of k ones among m bits has probability 1 / ((m + 1) binom(m, k)). So every input has a finite log-likelihood,
and the sum over all inputs stays one. A block of one is a Bernoulli, without fallback.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Int, Key, Num

from gdm.dataspec import DataSpec
from gdm.distributions import bernoulli, categorical
from gdm.errors import ConfigError


class Group(NamedTuple):
  """The blocks of one size, so that whoever works size by size need not pad all blocks to the largest."""

  variables: np.ndarray  # [blocks]
  dims: np.ndarray  # [blocks, size]


class Blocks(NamedTuple):
  """Tables of a partition of the dimensions; a block is a variable.

  Attributes:
    dims: flat dimensions [variables, span] of each variable, padded with the number of dimensions.
    sizes: [variables].
    owner: the variable [dims] that each dimension belongs to.
    groups: the variables by size.
    log_patterns: Laplace's log-probability [span + 1, span + 1] of a pattern, by the block's size and its ones.
  """

  dims: np.ndarray
  sizes: np.ndarray
  owner: np.ndarray
  groups: tuple[Group, ...]
  log_patterns: np.ndarray


@functools.lru_cache(maxsize=32)
def blocks_of(spec: DataSpec) -> Blocks:
  """Return the blocks of binary data; every dimension is a block of its own where the spec has none."""
  members = spec.blocks or tuple((i,) for i in range(spec.num_dims))
  sizes = np.array([len(block) for block in members])
  span = sizes.max()
  dims, owner = np.full((len(sizes), span), spec.num_dims), np.empty(spec.num_dims, np.int64)
  for variable, block in enumerate(members):
    dims[variable, :len(block)] = block
    owner[list(block)] = variable
  groups = tuple(Group(np.flatnonzero(sizes == size), dims[sizes == size, :size]) for size in np.unique(sizes))
  size, ones = np.indices((span + 1, span + 1))
  with np.errstate(divide="ignore"):  # patterns with more ones than bits: never looked up
    log_patterns = -np.log((size + 1) * scipy.special.binom(size, ones))
  return Blocks(dims, sizes, owner, groups, log_patterns.astype(np.float32))


def count_ones(blocks: Blocks, x: Num[Array, "batch dims"]) -> Int[Array, "batch variables"]:
  """Return how many ones each block of x has; none or one where the pattern is a state of the block."""
  counts = [jnp.sum(x[:, group.dims], axis=-1, dtype=jnp.int32) for group in blocks.groups]
  order = np.argsort(np.concatenate([group.variables for group in blocks.groups]))
  return jnp.concatenate(counts, axis=1)[:, order]


def log_prob(blocks: Blocks, state: Float[Array, "..."], size: Int[Array, "..."] | np.ndarray,
             ones: Int[Array, "..."] | np.ndarray | int, fallback: float) -> Float[Array, "..."]:
  """Log-probability of a block's pattern; the arguments broadcast.

  Args:
    blocks: the tables.
    state: the categorical's log-probability of the state that the pattern is; anything finite where it is none.
    size: the block's size.
    ones: how many ones the pattern has; it is a state if none or one.
    fallback: weight of Laplace's rule, in (0, 1).
  """
  laplace = jnp.log(fallback) + jnp.asarray(blocks.log_patterns)[size, ones]
  mixture = jnp.where(jnp.asarray(ones) <= 1, jnp.logaddexp(jnp.log1p(-fallback) + state, laplace), laplace)
  return jnp.where(jnp.asarray(size) == 1, state, mixture)


def draw(key: Key[Array, ""], logits: Float[Array, "*batch states"], size: Int[Array, "..."] | np.ndarray,
         fallback: float, temperature: float = 1.0) -> Int[Array, "*batch span"]:
  """Draw patterns of blocks, padded with 0.

  Args:
    key: a random key.
    logits: of the states: none, then the members; -inf beyond them.
    size: the blocks' sizes; it broadcasts to the batch.
    fallback: weight of Laplace's rule.
    temperature: divides the logits of the states, and those of the choice between them and Laplace's rule.
  """
  state_key, mix_key, rate_key, bits_key = jax.random.split(key, 4)
  span = logits.shape[-1] - 1
  size = jnp.asarray(size)[..., None]
  state = categorical.sample(state_key, logits, temperature)
  value = jax.nn.one_hot(state - 1, span, dtype=jnp.int32)
  # Laplace's rule: a rate uniform in [0, 1], then independent bits.
  mixed = bernoulli.sample(mix_key, jnp.full(state.shape, jnp.log(fallback) - jnp.log1p(-fallback)), temperature)
  rate = jax.random.uniform(rate_key, state.shape)
  pattern = jax.random.bernoulli(bits_key, rate[..., None], value.shape) & (jnp.arange(span) < size)
  return jnp.where((mixed[..., None] > 0) & (size > 1), pattern.astype(jnp.int32), value)


def require_fallback(fallback: float) -> None:
  """Raise a ConfigError unless every pattern of a block keeps a finite log-likelihood."""
  if not 0.0 < fallback < 1.0:
    raise ConfigError(f"fallback is {fallback}; it must lie strictly between 0 and 1, so that every pattern of a block "
                      "has a finite log-likelihood.")
