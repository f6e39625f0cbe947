"""Sequential Monte Carlo samplers: annealing whose chains are resampled where their weights have grown uneven.

(Del Moral, Doucet and Jasra, 2006, with kernels that leave f_beta as it is, which makes the weights those of annealed
importance sampling.) Chains that have come to hold nothing are given up for copies of those that hold much, and go on
from there: so the shares of modes are right where chains seldom cross between them, and weights stay even where the
base is far from the target. Chains are in islands that never exchange anything. Of each, the estimate of Z is unbiased,
whatever the rule of resampling, so that its logarithm is below log Z on average; and islands are independent, so that
their spread gives the error. Knows no model; a path is that of gdm/inference/annealed_importance.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.inference.annealed_importance import Path, check_ladder, log_growth, rungs_of
from gdm.precision import highest_precision

LEAST_SHARE = 0.5  # effective sample size, as a share of an island's chains, below which they are resampled


class Swarm(NamedTuple):
  """Chains at the target, in islands.

  Attributes:
    x: the chains.
    weights: of each, normalized within its island.
    log_normalizers: of each island log of its estimate of Z, log Z_0 included.
    acceptance: the probability with which each proposal was accepted, at every temperature but the first.
    effective_share: of every island at every temperature but the first, before it was resampled: its effective sample
      size as a share of its chains.
    resampled: whether an island was resampled there.
    ancestors: the chain at the base, by its number within the island, of which each is a descendant.
  """

  x: Num[Array, "islands chains *event"]
  weights: Float[Array, "islands chains"]
  log_normalizers: Float[Array, " islands"]
  acceptance: Float[Array, "rungs islands chains"]
  effective_share: Float[Array, "rungs islands"]
  resampled: Bool[Array, "rungs islands"]
  ancestors: Int[Array, "islands chains"]


@highest_precision()
def run(path: Path, betas: Float[Array | np.ndarray, " rungs"], key: Key[Array, ""], num_islands: int,
        num_chains: int) -> Swarm:
  """Anneal islands of chains from the base to the target; pure, one compiled loop over temperatures.

  Args:
    path: from the base to the target.
    betas: temperatures from 0 to 1.
    key: of these draws.
    num_islands: populations that know nothing of each other.
    num_chains: chains of each.

  Raise ConfigError unless the ladder leads from 0 to 1.
  """
  check_ladder(betas)
  base_key, key = jax.random.split(key)
  islands = (num_islands, num_chains)

  def step(state, rung):
    x, log_weights, log_normalizers, ancestors = state
    index, before, beta = rung
    move_key, resample_key = jax.random.split(jax.random.fold_in(key, index))
    log_weights = log_weights + log_growth(path, x, before, beta).reshape(islands)  # of the normalized weights before
    gain = jax.nn.logsumexp(log_weights, axis=1)
    # Of an island that is all where f is 0 nothing comes: its estimate of Z is 0, and stays so.
    log_weights = jnp.where(jnp.isneginf(gain)[:, None], -jnp.log(num_chains), log_weights - gain[:, None])
    weights = normalized(log_weights)
    share = effective_share(weights)
    uneven = share < LEAST_SHARE
    taken = jnp.where(uneven[:, None], resampled(resample_key, weights), jnp.arange(num_chains))
    log_weights = jnp.where(uneven[:, None], -jnp.log(num_chains), log_weights)
    x = select(x.reshape(*islands, *x.shape[1:]), taken).reshape(x.shape)
    ancestors = jnp.take_along_axis(ancestors, taken, axis=1)
    x, acceptance = path.move(move_key, x, beta)
    return (x, log_weights, log_normalizers + gain, ancestors), (acceptance.reshape(islands), share, uneven)

  start = path.sample_base(base_key, num_islands * num_chains)
  state = (start, jnp.full(islands, -jnp.log(num_chains)), jnp.full(num_islands, 1.0) * path.log_base_normalizer,
           jnp.broadcast_to(jnp.arange(num_chains), islands))
  (x, log_weights, log_normalizers, ancestors), told = jax.lax.scan(step, state, rungs_of(betas))
  return Swarm(x.reshape(*islands, *x.shape[1:]), normalized(log_weights), log_normalizers, *told, ancestors)


def normalized(log_weights: Float[Array, "islands chains"]) -> Float[Array, "islands chains"]:
  """Weights that sum to one within each island; NaN counts as nothing, and all are even where none is finite."""
  log_weights = jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights)
  some = jnp.isfinite(jnp.max(log_weights, axis=1, keepdims=True))
  return jax.nn.softmax(jnp.where(some, log_weights, 0.0), axis=1)


def effective_share(weights: Float[Array, "islands chains"]) -> Float[Array, " islands"]:
  """Effective sample size of normalized weights, 1 / sum w^2, as a share of the chains."""
  return 1.0 / (jnp.sum(jnp.square(weights), axis=1) * weights.shape[1])


def resampled(key: Key[Array, ""], weights: Float[Array, "islands chains"]) -> Int[Array, "islands chains"]:
  """Return which chain of its island takes each place, by systematic resampling.

  A chain of weight w is taken w n times of n, rounded up or down at random so that the mean is right.
  """
  num = weights.shape[1]
  places = (jnp.arange(num) + jax.random.uniform(key, (len(weights), 1), weights.dtype)) / num
  return jnp.minimum(jax.vmap(_first_above)(jnp.cumsum(weights, axis=1), places), num - 1)


def select(x: Num[Array, "islands chains *event"], taken: Int[Array, "islands chains"]) -> Num[Array, "..."]:
  """Return the chains that are taken, of each island its own."""
  return jax.vmap(lambda x, taken: x[taken])(x, taken)


def draws(key: Key[Array, ""], swarm: Swarm, num: int) -> Num[Array, "num *event"]:
  """Return `num` chains by their weights, those of islands among each other included; copies are not independent."""
  share = jax.nn.softmax(swarm.log_normalizers)
  weights = (share[:, None] * swarm.weights).reshape(-1)
  places = (jnp.arange(num) + jax.random.uniform(key, (), weights.dtype)) / num
  taken = jnp.minimum(_first_above(jnp.cumsum(weights), places), len(weights) - 1)
  return swarm.x.reshape(-1, *swarm.x.shape[2:])[taken]


def _first_above(sums: Float[Array, " chains"], places: Float[Array, " places"]) -> Int[Array, " places"]:
  """Return where the running sums first exceed each place: never at a chain of weight 0."""
  return jnp.searchsorted(sums, places, side="right")
