"""How a density of real numbers is normalized, and what kind of number its log-likelihood becomes by it.

  quadrature  on a grid in one and two dimensions: exact but for the grid's error, which stands as its standard error
  ais         annealed importance sampling: log Z from below by chains from the base; and by chains from each example
              back to the base (RAISE) a lower bound of the log-density of the annealed sampler, which is no bound of
              the model's own (see gdm/inference/annealed_importance.py)
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Key

from gdm.energy.normalizers import annealed_log_z
from gdm.inference import annealed_importance as annealing
from gdm.inference.quadrature import MOST_DIMS, log_integral
from gdm.likelihood import Kind, LogNormalizer
from gdm.model import Carry, Params


@runtime_checkable
class Normalizer(Protocol):
  """A way to normalize log f of standardized values; `model` is a ContinuousEnergy."""

  def log_normalizer(self, model: Any, params: Params, carry: Carry, key: Key[Array, ""]) -> LogNormalizer:
    """log Z in nats."""
    ...

  def log_prob(self, model: Any, params: Params, carry: Carry, u: Float[Array, "batch *event"], key: Key[Array, ""],
               num_samples: int) -> tuple[Float[Array, " batch"], Kind]:
    """log p(u) in nats, or a lower bound of the annealed sampler's, and which of them it is."""
    ...


class Quadrature:
  """On a grid."""

  def log_normalizer(self, model, params, carry, key):
    energy, event = model.energy(params, carry), model.spec.event
    found = log_integral(lambda u: -energy(u.reshape(-1, *event)), model.spec.num_dims, model.reach)
    return LogNormalizer(*found, Kind.EXACT)

  def log_prob(self, model, params, carry, u, key, num_samples):
    return -model.energy(params, carry)(u) - self.log_normalizer(model, params, carry, key).nats, Kind.EXACT


class Annealing:
  """By chains from the base, and back to it."""

  def log_normalizer(self, model, params, carry, key):
    ladder = annealing.ladder(model.num_temperatures)
    annealed = annealing.forward(model.path(params, carry), ladder, key, model.num_chains)
    return annealed_log_z(annealing.estimate(annealed.log_weights))

  def log_prob(self, model, params, carry, u, key, num_samples):
    ladder = annealing.ladder(model.num_temperatures)
    return annealing.lower_bound(model.path(params, carry), ladder, key, u, num_samples), Kind.SAMPLER_BOUND


NORMALIZERS: Mapping[str, Normalizer] = {"quadrature": Quadrature(), "ais": Annealing()}


def normalizer_of(name: str, num_dims: int) -> Normalizer:
  """By its name; "auto" is a grid where there can be one."""
  automatic = "quadrature" if num_dims <= MOST_DIMS else "ais"
  return NORMALIZERS[automatic if name == "auto" else name]


@functools.partial(jax.jit, static_argnames=("model",))
def log_normalizer(model: Any, params: Params, carry: Carry, key: Key[Array, ""]) -> LogNormalizer:
  """log Z of the data as served: of integers the bound by dequantization enters here, on the other side. Compiled."""
  found = normalizer_of(model.normalizer, model.spec.num_dims).log_normalizer(model, params, carry, key)
  by_dequantization = Kind.UPPER_BOUND if model.spec.is_discrete else Kind.EXACT
  return dataclasses.replace(found, kind=found.kind + by_dequantization)
