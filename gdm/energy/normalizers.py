"""Ways to normalize an energy model, and the kind of number that its log-likelihood becomes by each.

  exact, quadrature  log Z by a sum over all states, or by cells in one and two dimensions, whose error is stated
  ais  annealed importance sampling: log Z from below by chains from the base; and by chains from each example back to
       the base (RAISE) a lower bound of the log-probability that the annealed sampler draws it, which is no bound of
       the model's own (see gdm/inference/annealed_importance.py)
  smc  sequential Monte Carlo: log Z from below by chains that are resampled on the way, for where those of ais come to
       be worth few (see gdm/inference/sequential_monte_carlo.py); examples' scores are those of ais

All work on an `EnergyModel` (gdm/energy/energy.py), of whose functions they need those of the protocol below.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.inference import annealed_importance as annealing
from gdm.inference import missed_modes, sequential_monte_carlo
from gdm.likelihood import Kind, LogNormalizer
from gdm.model import Carry, Params

NUM_STARTS = 64  # chains from each place where missed modes are looked for
SETTLING_STEPS = 100  # of these chains, at the model itself
MAX_ISLANDS = 8  # of sequential Monte Carlo, whose spread is the error of log Z


class LogIntegral(NamedTuple):
  """log Z in nats, and its numerical error; None for none."""

  nats: Float[Array, ""]
  error: Float[Array, ""] | None = None


class LogProb(NamedTuple):
  """log p of values in nats, what kind of number it is, and its numerical error; None for none."""

  nats: Float[Array, " batch"]
  kind: Kind
  error: Float[Array, " batch"] | None = None


@runtime_checkable
class Normalizable(Protocol):
  """The functions of a model that a normalizer needs; they are described in `EnergyModel`."""

  @property
  def num_temperatures(self) -> int: ...

  @property
  def num_chains(self) -> int: ...

  rejects: ClassVar[bool]

  def log_f(self, params: Params, carry: Carry, x: Float[Array, "batch *shape"]) -> Float[Array, " batch"]: ...

  def log_integral(self, params: Params, carry: Carry,
                   examples: Float[Array, "examples *shape"] | None = None) -> LogIntegral: ...

  def path(self, params: Params, carry: Carry) -> annealing.Path: ...

  def path_about(self, params: Params, carry: Carry, x: Float[Array, "states *shape"],
                 weights: Float[Array, " states"]) -> annealing.Path: ...

  def starts(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
             examples: Float[Array, "examples *shape"] | None = None) -> list[Float[Array, "num *shape"]]: ...

  def settle(self, params: Params, carry: Carry, key: Key[Array, ""], x: Float[Array, "chains *shape"],
             num_steps: int) -> Float[Array, "chains *shape"]: ...

  def spread(self, params: Params) -> Float[Array, "*shape"]: ...


@runtime_checkable
class Normalizer(Protocol):
  """A way to normalize log f of values."""

  def log_normalizer(self, model: Normalizable, params: Params, carry: Carry, key: Key[Array, ""],
                     examples: Float[Array, "examples *shape"] | None) -> LogNormalizer:
    """Return log Z in nats; mass is looked for at examples too."""
    ...

  def log_prob(self, model: Normalizable, params: Params, carry: Carry, x: Float[Array, "batch *shape"],
               key: Key[Array, ""], num_samples: int) -> LogProb:
    """Return log p(x) in nats, or a lower bound of the annealed sampler's."""
    ...


class BySolving:
  """A normalizer by the model's own sum or quadrature."""

  def log_normalizer(self, model, params, carry, key, examples):
    log_z: LogIntegral = _log_integral(model, params, carry, examples)
    return LogNormalizer(log_z.nats, jnp.zeros(()) if log_z.error is None else log_z.error, Kind.EXACT)

  def log_prob(self, model, params, carry, x, key, num_samples):
    log_z: LogIntegral = model.log_integral(params, carry, x)
    nats = model.log_f(params, carry, x) - log_z.nats
    return LogProb(nats, Kind.EXACT, None if log_z.error is None else jnp.broadcast_to(log_z.error, nats.shape))


@dataclasses.dataclass(frozen=True)
class ByAnnealing:
  """A normalizer by chains from the base, and back to it.

  Attributes:
    run: (model, path, key) -> the model's number of chains, annealed along a path over its number of temperatures.
  """

  run: Callable[[Normalizable, annealing.Path, Key[Array, ""]], missed_modes.AnnealedRun]

  def log_normalizer(self, model, params, carry, key, examples):
    look_key, key = jax.random.split(key)
    found = missed_modes.log_normalizer(
        _look(self, model, params, carry, look_key, examples), key,
        lambda key, x, weights: _anneal_from(self, model, params, carry, key, x, weights))
    log_z = found.log_z
    return LogNormalizer(log_z.nats, log_z.stderr, Kind.LOWER_BOUND, log_z.interval, log_z.effective_sample_size,
                         found.missed, found.acceptance if model.rejects else None)

  def log_prob(self, model, params, carry, x, key, num_samples):
    path = model.path(params, carry)
    ladder = annealing.ladder_of(path, model.num_temperatures)
    return LogProb(annealing.lower_bound(path, ladder, key, x, num_samples), Kind.SAMPLER_BOUND)


# Compiled piece by piece, since a piece may not be needed; a model is hashable and holds no arrays.


@functools.partial(jax.jit, static_argnames=("model",))
def _log_integral(model: Normalizable, params: Params, carry: Carry,
                  examples: Float[Array, "examples *shape"] | None) -> LogIntegral:
  return model.log_integral(params, carry, examples)


@functools.partial(jax.jit, static_argnames=("way", "model"))
def _look(way: ByAnnealing, model: Normalizable, params: Params, carry: Carry, key: Key[Array, ""],
          examples: Float[Array, "examples *shape"] | None) -> missed_modes.Look:
  start_key, key = jax.random.split(key)
  return missed_modes.look(
      model.path(params, carry), key, model.starts(params, carry, start_key, NUM_STARTS, examples),
      anneal=functools.partial(way.run, model), scale=model.spread(params),
      settle=lambda key, x: model.settle(params, carry, key, x, SETTLING_STEPS))


@functools.partial(jax.jit, static_argnames=("way", "model"))
def _anneal_from(way: ByAnnealing, model: Normalizable, params: Params, carry: Carry, key: Key[Array, ""],
                 x: Float[Array, "states *shape"], weights: Float[Array, " states"]) -> missed_modes.AnnealedRun:
  return way.run(model, model.path_about(params, carry, x, weights), key)


def by_weights(model: Normalizable, path: annealing.Path, key: Key[Array, ""]) -> missed_modes.AnnealedRun:
  """Anneal chains that know nothing of each other."""
  annealed = annealing.forward(path, annealing.ladder_of(path, model.num_temperatures), key, model.num_chains)
  return missed_modes.AnnealedRun(annealed.x, annealed.log_weights[:, None], least_acceptance(annealed.acceptance))


def in_islands(model: Normalizable, path: annealing.Path, key: Key[Array, ""]) -> missed_modes.AnnealedRun:
  """Anneal chains that are resampled on the way, within islands that are independent."""
  islands = min(MAX_ISLANDS, model.num_chains)
  swarm = sequential_monte_carlo.run(path, annealing.ladder_of(path, model.num_temperatures), key, islands,
                                     model.num_chains // islands)
  log_weights = swarm.log_normalizers[:, None] + jnp.log(swarm.weights * swarm.weights.shape[1])
  acceptance = least_acceptance(swarm.acceptance.reshape(len(swarm.acceptance), -1))
  worth = swarm.weights.size * jnp.min(jnp.mean(swarm.effective_share, axis=1))
  return missed_modes.AnnealedRun(swarm.x.reshape(-1, *swarm.x.shape[2:]), log_weights, acceptance, worth)


def least_acceptance(acceptance: Float[Array, "rungs chains"]) -> Float[Array, ""]:
  """Return the least share of moves that the chains accepted at any temperature."""
  return jnp.min(jnp.mean(acceptance, axis=1))


def spread_over(examples: Float[Array, "examples *shape"], num: int) -> Float[Array, "num *shape"]:
  """Return `num` examples from the first to the last; each several times where there are fewer."""
  return examples[np.linspace(0, len(examples) - 1, num).round().astype(int)]


NORMALIZERS: Mapping[str, Normalizer] = {
    "exact": BySolving(), "quadrature": BySolving(), "ais": ByAnnealing(by_weights), "smc": ByAnnealing(in_islands)}
