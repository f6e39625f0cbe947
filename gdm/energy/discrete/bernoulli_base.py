"""Energies of binary data whose base is independent units at the data's marginals; its energy is -logits . x."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.distributions import bernoulli
from gdm.energy.gibbs_energy import GibbsEnergy
from gdm.model import Params

PSEUDO_COUNT = 0.5  # of either value, so that a unit that never changes in the first batch has a finite logit


def fit(x: Float[Array, "batch dims"]) -> dict[str, Float[Array, " dims"]]:
  """Return the smoothed marginals' logits."""
  ones = jnp.sum(x, axis=0) + PSEUDO_COUNT
  return {"logits": jnp.log(ones) - jnp.log(x.shape[0] + 2.0 * PSEUDO_COUNT - ones)}


def fit_weighted(x: Float[Array, "states dims"], weights: Float[Array, " states"]) -> dict[str, Float[Array, " dims"]]:
  """Return the smoothed marginals' logits of weighted states."""
  ones, total = weights @ x + PSEUDO_COUNT, jnp.sum(weights)
  return {"logits": jnp.log(ones) - jnp.log(total + 2.0 * PSEUDO_COUNT - ones)}


def elsewhere(base: dict[str, Float[Array, " dims"]], key: Key[Array, ""], num: int) -> list[Float[Array, "num dims"]]:
  """States far from the base's: its draws with all bits inverted, and fair coins."""
  opposite_key, fair_key = jax.random.split(key)
  fair = {"logits": jnp.zeros_like(base["logits"])}
  return [1.0 - sample(base, opposite_key, num), sample(fair, fair_key, num)]


def mean(base: dict[str, Float[Array, " dims"]]) -> Float[Array, " dims"]:
  return jax.nn.sigmoid(base["logits"])


def log_normalizer(base: dict[str, Float[Array, " dims"]]) -> Float[Array, ""]:
  """Return log of the sum of exp(logits . x) over all x."""
  return jnp.sum(jax.nn.softplus(base["logits"]))


def sample(base: dict[str, Float[Array, " dims"]], key: Key[Array, ""], num: int) -> Float[Array, "num dims"]:
  logits = jnp.broadcast_to(base["logits"], (num, *base["logits"].shape))
  return bernoulli.sample(key, logits).astype(logits.dtype)


@dataclasses.dataclass(frozen=True)
class BinaryEnergy(GibbsEnergy):
  """A `GibbsEnergy` of binary data; see there for its attributes."""

  def sample_base(self, params, key, num):
    return sample(self.start_of(params), key, num)

  def sample_elsewhere(self, params, key, num):
    return elsewhere(params["base"], key, num)

  def spread(self, params):
    return jnp.ones(self.num_dims)

  def fit_base(self, params, x, weights):
    return fit_weighted(x, weights)

  def bias_at(self, params: Params, bias: Float[Array, "*batch dims"],
              beta: Float[Array, ""] | float) -> Float[Array, "*batch dims"]:
    """Return the units' bias on the path: the base's logits turn into the model's own `bias`."""
    return (1.0 - beta) * self.start_of(params)["logits"] + beta * bias
