"""Gibbs with gradients (Grathwohl et al., arXiv:2102.04509): Metropolis-Hastings on binary states (algorithm 1).

A proposal flips one site, chosen by the first-order change of log f that each flip would bring: a locally informed
proposal at the price of one gradient. The kernel is reversible.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.precision import highest_precision


class GibbsMove(NamedTuple):
  """States after one proposal each, and the probability with which it was accepted."""

  x: Num[Array, "*lead sites"]
  acceptance: Float[Array, "*lead"]


@highest_precision()
def binary_step(key: Key[Array, ""], x: Num[Array, "*lead sites"],
                log_density: Callable[[Num[Array, "*lead sites"]], Float[Array, "*lead"]],
                known: Bool[Array, " sites"] | None = None) -> GibbsMove:
  """One proposed flip per state.

  Args:
    key: of this step.
    x: states in {0, 1}, as floats.
    log_density: log f(x) in nats up to a constant, differentiable in x.
    known: sites that are never flipped.
  """
  def informed(x):
    value, gain = _gains(log_density, x)
    gain = (1.0 - 2.0 * x) * gain  # equation 3: first-order change of log f when a site flips
    return value, jax.nn.log_softmax(0.5 * _only(gain, known), axis=-1)

  site_key, accept_key = jax.random.split(key)
  value, logits = informed(x)
  site = jax.random.categorical(site_key, logits)
  proposed = jnp.where(jnp.arange(x.shape[-1]) == site[..., None], 1.0 - x, x)
  value_there, logits_back = informed(proposed)
  log_ratio = value_there - value + _at(logits_back, site) - _at(logits, site)
  return _accept(accept_key, x, proposed, log_ratio)


def _gains(log_density: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
  """Return log f and its gradient, state by state."""
  value, pullback = jax.vjp(log_density, x)
  return value, pullback(jnp.ones_like(value))[0]


def _only(gain: Array, known: Array | None) -> Array:
  return gain if known is None else jnp.where(known, -jnp.inf, gain)


def _at(logits: Float[Array, "*lead choices"], choice: Int[Array, "*lead"]) -> Float[Array, "*lead"]:
  return jnp.take_along_axis(logits, choice[..., None], axis=-1)[..., 0]


def _accept(key: Key[Array, ""], x: Array, proposed: Array, log_ratio: Float[Array, "*lead"]) -> GibbsMove:
  acceptance = jnp.exp(jnp.minimum(log_ratio, 0.0))
  accepted = jax.random.bernoulli(key, acceptance)
  return GibbsMove(jnp.where(accepted[..., None], proposed, x), acceptance)
