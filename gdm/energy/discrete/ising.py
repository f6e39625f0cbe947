"""The fully visible Boltzmann machine: an Ising model on binary data (Ackley, Hinton and Sejnowski, 1985).

log f(x) = b.x + (x - mu) J (x - mu) / 2 with J symmetric and without a diagonal, centred at the data's marginals.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from gdm import checks
from gdm.energy.discrete import bernoulli_base
from gdm.energy.discrete.bernoulli_base import BinaryEnergy
from gdm.energy.discrete.enumeration import log_sum_over_states
from gdm.inference import gibbs
from gdm.inference.gibbs_with_gradients import binary_step
from gdm.model import Params


@dataclasses.dataclass(frozen=True)
class Ising(BinaryEnergy):
  """Pairwise couplings between all binary units.

  Parameters: "couplings" [dims, dims], of which the mean with its transpose, off the diagonal, counts; "bias" [dims].

  Attributes:
    sampler: "sites" sweeps over all sites and back, "gradients" proposes as many flips as there are sites by Gibbs with
      gradients; one such pass is a step.
  """

  sampler: str = "sites"

  def __post_init__(self) -> None:
    self.spec.require_binary("Ising")
    checks.one_of("model.sampler", self.sampler, SAMPLERS)
    super().__post_init__()

  @property
  def num_enumerable(self) -> int:
    return self.num_dims

  def init_params(self, key, x):
    base = bernoulli_base.fit(x)
    return {"couplings": jnp.zeros((self.num_dims, self.num_dims)), "bias": base["logits"]}, base

  def log_density(self, params, x, beta):
    centred = x - bernoulli_base.mean(params["base"])
    pairs = jnp.sum((centred @ couplings(params)) * centred, axis=-1)
    return x @ self.bias_at(params, params["model"]["bias"], beta) + 0.5 * beta * pairs

  def transition(self, params, key, x, beta, known=None):
    return SAMPLERS[self.sampler](self, params, key, x, beta, known)

  def base_log_normalizer(self, params):
    return bernoulli_base.log_normalizer(self.start_of(params))

  def enumerated_log_normalizer(self, params):
    return log_sum_over_states(lambda x: self.log_density(params, x, 1.0), self.num_dims)

  def _sweep(self, params: Params, key: Key[Array, ""], x: Float[Array, "*lead dims"], beta: Float[Array, ""] | float,
             known: Bool[Array, " dims"] | None) -> Float[Array, "*lead dims"]:
    pairs = beta * couplings(params)
    bias = self.bias_at(params, params["model"]["bias"], beta) - bernoulli_base.mean(params["base"]) @ pairs
    return gibbs.site_sweep(key, x, lambda x, site: x @ pairs[:, site] + bias[site], known)

  def _flips(self, params: Params, key: Key[Array, ""], x: Float[Array, "*lead dims"], beta: Float[Array, ""] | float,
             known: Bool[Array, " dims"] | None) -> Float[Array, "*lead dims"]:
    def flip(key, x):
      return binary_step(key, x, lambda x: self.log_density(params, x, beta), known).x

    return gibbs.repeat(flip, key, x, self.num_dims)


def couplings(params: Params) -> Float[Array, "dims dims"]:
  """J: symmetric, without a diagonal."""
  free = params["model"]["couplings"]
  return 0.5 * (free + free.T) * (1.0 - jnp.eye(free.shape[0], dtype=free.dtype))


SAMPLERS: Mapping[str, Callable[..., Array]] = {"sites": Ising._sweep, "gradients": Ising._flips}
