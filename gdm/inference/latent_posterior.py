"""Posterior draws of examples that are a function of standard normals, given the likelihood of an example.

Sequential Monte Carlo over the normals, from their law to their posterior, moved by preconditioned Crank-Nicolson
proposals (Cotter et al., arXiv:1202.0709, section 4.2), which leave the normals' law as it is and need no gradient: so
the function may round. In the limit of many chains the draws are from the posterior. Knows no model.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from gdm.inference import sequential_monte_carlo as smc
from gdm.inference.annealed_importance import Path

NUM_CHAINS = 128  # of each posterior
NUM_TEMPERATURES = 60
NUM_MOVES = 3  # at each temperature
LEAST = -1e30  # in nats, of examples that cannot be: differences of it are finite
LEAST_STEP = 0.02  # the share of fresh noise in a proposal lies between this and 1, evenly by its logarithm

# (normals [chains, dims], rows [chains]) -> examples; `rows` says which posterior each chain is of.
Made = Callable[[Array, Array], Array]
# (examples [chains, *event], rows [chains]) -> log-likelihoods [chains] in nats.
LogLikelihoodOf = Callable[[Array, Array], Array]


class PosteriorDraws(NamedTuple):
  """Draws from several posteriors.

  Attributes:
    x: the draws.
    info: "nfe", calls of the function by a chain; "least_acceptance", the least mean acceptance at any temperature;
      "least_effective_share" [batch], the least effective sample size at any, as a share of the chains; "ancestors"
      [batch], how many of the first chains have descendants among the last; "undefined", the share of draws from the
      prior whose likelihood is NaN, which is an error of the function or of the likelihood.
  """

  x: Num[Array, "num batch *event"]
  info: Mapping[str, Any]


def draw(key: Key[Array, ""], made: Made, log_likelihood: LogLikelihoodOf, dims: int, batch: int,
         num: int) -> PosteriorDraws:
  """Draw examples made of normals z: p(z | y) is N(z; 0, I) times the likelihood of what z makes.

  Draws of one posterior are of one population of chains, so they may be copies of each other.

  Args:
    key: of the draws.
    made: the function.
    log_likelihood: of examples.
    dims: of the normals.
    batch: how many posteriors.
    num: draws of each.

  Example:
    # x = z, and y = 1 was measured with noise of deviation 0.5.
    found = draw(key, lambda z, rows: z, lambda x, rows: -2.0 * (x[:, 0] - 1.0) ** 2, dims=1, batch=1, num=100)
  """
  pilot_key, run_key, draw_key = jax.random.split(key, 3)
  chains = max(num, NUM_CHAINS)
  rows = jnp.repeat(jnp.arange(batch), chains)

  def likelihood(z):
    return log_likelihood(made(z, rows), rows)

  def log_weight(z):
    found = likelihood(z)
    return jnp.maximum(jnp.where(jnp.isnan(found), LEAST, found), LEAST)

  path = Path(lambda z, beta: beta * log_weight(z), lambda key, z, beta: z,
              lambda key, count: jax.random.normal(key, (count, dims)), jnp.zeros(()),
              measured=lambda key, z, beta: _moved(key, z, log_weight, beta))
  pilot = likelihood(jax.random.normal(pilot_key, (batch * chains, dims)))
  betas = _ladder(pilot)
  swarm = smc.run(path, betas, run_key, batch, chains)
  taken = smc.resampled(draw_key, swarm.weights)
  taken = jax.vmap(jax.random.permutation)(jax.random.split(draw_key, batch), taken)
  z = jnp.swapaxes(smc.select(swarm.x, taken)[:, :num], 0, 1)  # [num, batch, dims]
  x = jax.vmap(lambda z: made(z, jnp.arange(batch)))(z)
  found = jax.vmap(lambda ancestors: jnp.zeros(chains).at[ancestors].set(1.0).sum())(swarm.ancestors)
  return PosteriorDraws(x, {
      "nfe": jnp.asarray((NUM_MOVES + 2) * NUM_TEMPERATURES),
      "least_acceptance": jnp.min(jnp.mean(swarm.acceptance, axis=(1, 2))),
      "least_effective_share": jnp.min(swarm.effective_share, axis=0), "ancestors": found,
      "undefined": jnp.mean(jnp.isnan(pilot))})


def _ladder(log_weights: Float[Array, " chains"]) -> Float[Array, " temperatures"]:
  """Return temperatures from 0 to 1 whose first steps are as small as the spread of the likelihood under the prior
  asks, and which grow by one factor."""
  possible = jnp.isfinite(log_weights)
  deviation = jnp.std(log_weights, where=possible | ~jnp.any(possible))
  spread = jnp.where(jnp.any(possible), jnp.log1p(deviation), 0.0)
  share = jnp.linspace(0.0, 1.0, NUM_TEMPERATURES + 1)
  betas = jnp.where(spread < 1e-3, share, jnp.expm1(spread * share) / jnp.expm1(jnp.maximum(spread, 1e-3)))
  return betas.at[-1].set(1.0)


def _moved(key: Key[Array, ""], z: Float[Array, "chains dims"], log_weight: Callable[[Array], Array],
           beta: Float[Array, ""]) -> tuple[Float[Array, "chains dims"], Float[Array, " chains"]]:
  """Return chains after NUM_MOVES proposals sqrt(1 - s^2) z + s noise, and their mean acceptance."""
  def move(state, key):
    z, value = state
    step_key, noise_key, accept_key = jax.random.split(key, 3)
    share = jnp.exp(math.log(LEAST_STEP) * jax.random.uniform(step_key, (len(z), 1)))
    there = jnp.sqrt(1.0 - share**2) * z + share * jax.random.normal(noise_key, z.shape)
    at_there = log_weight(there)
    acceptance = jnp.exp(jnp.minimum(beta * (at_there - value), 0.0))
    accepted = jax.random.uniform(accept_key, value.shape) < acceptance
    return (jnp.where(accepted[:, None], there, z), jnp.where(accepted, at_there, value)), acceptance

  (z, _), acceptance = jax.lax.scan(move, (z, log_weight(z)), jax.random.split(key, NUM_MOVES))
  return z, jnp.mean(acceptance, axis=0)
