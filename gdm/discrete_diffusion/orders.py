"""The chain rule in any order: log p(x) when dimensions are unmasked one after another.

Of one order it is exact, and so is the uniform mixture of a few. Averaged over all D! orders it is the probability that
the model's own sampler draws x with; the sum over subsets gives it exactly where there are few dimensions.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Key

from gdm.errors import ConfigError, SpecError

MAX_EXACT_DIMS = 12  # whose 2^D subsets are gone through

# x [batch, dims], integers in [0, levels] where `levels` is a mask -> log-probabilities [batch, dims, levels] in nats.
LogProbs = Callable[[Array], Array]


def require_order(order: Integer[np.ndarray, "..."], dims: int) -> None:
  """Raise ConfigError unless an order is a permutation of the dimensions."""
  order = np.asarray(order)
  if order.shape != (dims,) or not np.array_equal(np.sort(order), np.arange(dims)):
    missing = np.setdiff1d(np.arange(dims), order)
    lacks = f"it lacks {missing[0]}" if len(missing) else f"it has {order.size} entries"
    raise ConfigError(f"an order of dimensions has shape {order.shape} and must be a permutation of 0 to {dims - 1}; "
                      f"{lacks}.")


def random_orders(seed: int, num: int, dims: int) -> Int[np.ndarray, "num dims"]:
  """Return `num` random permutations of the dimensions, the same for the same seed, each whatever their number."""
  orders = [np.random.Generator(np.random.Philox([seed, index])).permutation(dims) for index in range(num)]
  return np.stack(orders).astype(np.int32)


def draw_orders(key: Key[Array, ""], num: int, dims: int) -> Int[Array, "num dims"]:
  """Draw `num` independent uniform orders of the dimensions."""
  return jnp.argsort(jax.random.uniform(key, (num, dims)), axis=1).astype(jnp.int32)


def order_log_prob(log_probs: LogProbs, x: Int[Array, "batch dims"], order: Int[Array, "batch dims"],
                   levels: int) -> Float[Array, " batch"]:
  """Return log p(x) in nats of the chain in each example's order: sum over steps of log p(x_i | those before).

  Args:
    log_probs: the network, see `LogProbs`.
    x: examples; what is a mask, as padding is, is not scored and stays one.
    order: order[:, 0] is the first dimension.
    levels: how many; also the number that stands for a mask.
  """
  place = jnp.argsort(order, axis=1)
  rows = jnp.arange(len(x))

  def step(total, index):
    found = _with_masks(log_probs(jnp.where(place < index, x, levels)))
    dim = order[:, index]
    return total + found[rows, dim, x[rows, dim]], None

  total, _ = jax.lax.scan(step, jnp.zeros(len(x)), jnp.arange(x.shape[1]))
  return total


def all_orders_log_prob(log_probs: LogProbs, x: Int[Array, "batch dims"], levels: int) -> Float[Array, " batch"]:
  """Return log p(x) in nats of the mixture of all orders, exactly, by 2^D passes of the network.

  f(S) is the probability of x on the subset S when the order within S is uniform. The last dimension of S is each of
  its members as often, so f(S) = 1 / |S| sum over i in S of f(S without i) p(x_i | x on S without i).

  Raise SpecError above MAX_EXACT_DIMS dimensions.
  """
  dims = x.shape[1]
  if dims > MAX_EXACT_DIMS:
    raise SpecError(f"likelihood 'exact' sums over the 2^{dims} subsets of {dims} dimensions; it takes at most "
                    f"{MAX_EXACT_DIMS}. Set it to 'orders', a bound, or 'ensemble', exact for a few orders.")
  bits = jnp.arange(dims)

  def conditionals(subset):  # of every dimension, given x on the subset
    known = (subset >> bits) & 1 == 1
    found = _with_masks(log_probs(jnp.where(known, x, levels)))
    return jnp.take_along_axis(found, x[..., None], axis=-1)[..., 0]

  given = jax.lax.map(conditionals, jnp.arange(2**dims))  # [subsets, batch, dims]

  def add(subset, log_f):
    inside = (subset >> bits) & 1 == 1
    before = jnp.where(inside, subset ^ (1 << bits), 0)
    terms = log_f[before] + given[before, :, bits]  # [dims, batch]
    total = jax.nn.logsumexp(jnp.where(inside[:, None], terms, -jnp.inf), axis=0)
    return log_f.at[subset].set(total - jnp.log(jnp.sum(inside)))

  return jax.lax.fori_loop(1, 2**dims, add, jnp.zeros((2**dims, len(x))))[-1]


def _with_masks(log_probs: Float[Array, "batch dims levels"]) -> Float[Array, "batch dims levels_and_mask"]:
  """Return the log-probabilities, with 0 for a mask: what is known to be one costs nothing."""
  return jnp.pad(log_probs, ((0, 0), (0, 0), (0, 1)))


def mean_of_exp(nats: Float[Array, "num batch"]) -> Float[Array, " batch"]:
  """Return log of the mean over the first axis of exp(nats)."""
  return jax.nn.logsumexp(nats, axis=0) - math.log(nats.shape[0])
