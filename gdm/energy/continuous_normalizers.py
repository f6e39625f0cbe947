"""How a density of real numbers is normalized, and what kind of number its log-likelihood becomes by it.

  quadrature  over cells in one and two dimensions: exact but for the cells' error, which is stated
  ais         annealed importance sampling: log Z from below by chains from the base; and by chains from each example
              back to the base (RAISE) a lower bound of the log-density of the annealed sampler, which is no bound of
              the model's own (see gdm/inference/annealed_importance.py)
  smc         sequential Monte Carlo: log Z from below by chains that are resampled on the way, for where those of ais
              come to be worth few (see gdm/inference/sequential_monte_carlo.py); examples' scores are those of ais
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.energy import continuous_chains as chains
from gdm.energy.normalizers import NUM_STARTS, SETTLING_STEPS, annealed_log_z, annealed_run, least_acceptance
from gdm.inference import annealed_importance as annealing
from gdm.inference import missed_modes, sequential_monte_carlo
from gdm.inference.quadrature import MAX_DIMS, Integral, climb, log_integral
from gdm.likelihood import Kind, LogNormalizer
from gdm.model import Carry, Params
from gdm.precision import highest_precision


@runtime_checkable
class Normalizer(Protocol):
  """A way to normalize log f of standardized values; `model` is a ContinuousEnergy."""

  def log_normalizer(self, model: Any, params: Params, carry: Carry, key: Key[Array, ""],
                     examples: Float[Array, "examples *event"] | None) -> LogNormalizer:
    """log Z in nats; mass is looked for at standardized examples, too."""
    ...

  def log_prob(self, model: Any, params: Params, carry: Carry, u: Float[Array, "batch *event"], key: Key[Array, ""],
               num_samples: int) -> "LogProb":
    """log p(u), or a lower bound of the annealed sampler's."""
    ...


class LogProb(NamedTuple):
  """log p(u) of standardized values in nats, what kind of number it is, and its numerical error; None for none."""

  nats: Float[Array, " batch"]
  kind: Kind
  error: Float[Array, " batch"] | None = None


class Quadrature:
  """Over cells that are small where the mass is, looked for also at draws of the base, at chains and at data."""

  def log_normalizer(self, model, params, carry, key, examples):
    log_z: Integral = _compiled_integral(model, params, carry, examples)
    return LogNormalizer(log_z.nats, log_z.error, Kind.EXACT)

  def log_prob(self, model, params, carry, u, key, num_samples):
    log_z = _integral(model, params, carry, u)
    nats = -model.energy(params, carry)(u) - log_z.nats
    return LogProb(nats, Kind.EXACT, jnp.broadcast_to(log_z.error, nats.shape))


_BASE_HINTS, _CHAIN_HINTS = 64, 128  # draws and chains from which peaks are looked for


@highest_precision()
def _integral(model: Any, params: Params, carry: Carry, data: Float[Array, "batch *event"] | None) -> Integral:
  """log Z by quadrature; the same whenever it is asked for, but for data where f is unexpectedly large."""
  energy, event, num_dims = model.energy(params, carry), model.spec.event, model.spec.num_dims

  def log_density(u):
    return -energy(u.reshape(-1, *event))

  box = jax.tree.map(lambda part: part.reshape(num_dims), model.box(params))
  starts = [model.sample_base(params, carry, jax.random.key(0), _BASE_HINTS)]
  if "chains" in carry:
    chains = carry["chains"].reshape(-1, num_dims)
    starts.append(chains[::-(-len(chains) // _CHAIN_HINTS)])
  # A chain that is lost, or a draw, is no place to look at.
  starts = jnp.concatenate([start.reshape(-1, num_dims) for start in starts])
  starts = jnp.where(jnp.isfinite(starts), starts, box.centre)
  hints = jnp.concatenate([starts, climb(log_density, starts, 0.25 * box.half_width)])
  if data is not None:  # an example that is not finite has no density, and must not spoil those of others
    flat = data.reshape(-1, num_dims)
    hints = jnp.concatenate([hints, jnp.where(jnp.isfinite(flat), flat, box.centre)])
  hints = jax.lax.stop_gradient(hints)
  half_width = jnp.maximum(box.half_width, 2.0 * jnp.max(jnp.abs(hints - box.centre), axis=0))
  return log_integral(log_density, num_dims, half_width, centre=box.centre, scale=box.scale, hints=hints)


@functools.partial(jax.jit, static_argnames=("model",))
def _compiled_integral(model: Any, params: Params, carry: Carry,
                       data: Float[Array, "batch *event"] | None) -> Integral:
  return _integral(model, params, carry, data)


@dataclasses.dataclass(frozen=True)
class Annealing:
  """By chains from the base, and back to it; a pilot run, the same for both, finds their kernels and temperatures.

  Attributes:
    run: (model, path, key) -> the model's number of chains, annealed along a path over its number of temperatures.
  """

  run: Callable[[Any, annealing.Path, Key[Array, ""]], missed_modes.Run]

  def log_normalizer(self, model, params, carry, key, examples):
    look_key, key = jax.random.split(key)
    return annealed_log_z(missed_modes.log_normalizer(
        _look(self, model, params, carry, look_key, examples), key,
        lambda key, u, weights: _anneal_from(self, model, params, carry, key, u, weights)), rejects=True)

  def log_prob(self, model, params, carry, u, key, num_samples):
    path = model.path(params, carry)
    ladder = annealing.ladder_of(path, model.num_temperatures)
    return LogProb(annealing.lower_bound(path, ladder, key, u, num_samples), Kind.SAMPLER_BOUND)


# Compiled piece by piece, since a piece may not be needed; a model is hashable and holds no arrays.


@functools.partial(jax.jit, static_argnames=("way", "model"))
def _look(way: Annealing, model: Any, params: Params, carry: Carry, key: Key[Array, ""],
          examples: Float[Array, "examples *event"] | None) -> missed_modes.Look:
  start_key, key = jax.random.split(key)
  return missed_modes.look(
      model.path(params, carry), key, model.starts(params, carry, start_key, NUM_STARTS, examples),
      anneal=functools.partial(way.run, model), scale=model.spread(params),
      settle=lambda key, u: chains.settle(model, params, carry, key, u, SETTLING_STEPS))


@functools.partial(jax.jit, static_argnames=("way", "model"))
def _anneal_from(way: Annealing, model: Any, params: Params, carry: Carry, key: Key[Array, ""],
                 u: Float[Array, "states *event"], weights: Float[Array, " states"]) -> missed_modes.Run:
  base = chains.gaussian_about(u, weights, model.spread(params))
  return way.run(model, model.path(params, carry, base=base), key)


def _by_weights(model: Any, path: annealing.Path, key: Key[Array, ""]) -> missed_modes.Run:
  """Chains that know nothing of each other."""
  return annealed_run(annealing.forward(path, annealing.ladder_of(path, model.num_temperatures), key, model.num_chains))


def _in_islands(model: Any, path: annealing.Path, key: Key[Array, ""]) -> missed_modes.Run:
  """Chains that are resampled on the way, so that only islands are independent."""
  islands = min(MAX_ISLANDS, model.num_chains)
  swarm = sequential_monte_carlo.run(path, annealing.ladder_of(path, model.num_temperatures), key, islands,
                                     model.num_chains // islands)
  log_weights = swarm.log_normalizers[:, None] + jnp.log(swarm.weights * swarm.weights.shape[1])
  acceptance = least_acceptance(swarm.acceptance.reshape(len(swarm.acceptance), -1))
  worth = swarm.weights.size * jnp.min(jnp.mean(swarm.effective_share, axis=1))
  return missed_modes.Run(swarm.x.reshape(-1, *model.spec.event), log_weights, acceptance, worth)


MAX_ISLANDS = 8  # whose spread is the error of log Z
NORMALIZERS: Mapping[str, Normalizer] = {"quadrature": Quadrature(), "ais": Annealing(_by_weights),
                                          "smc": Annealing(_in_islands)}


def normalizer_of(name: str, num_dims: int) -> Normalizer:
  """By its name; "auto" is quadrature where there can be one."""
  automatic = "quadrature" if num_dims <= MAX_DIMS else "ais"
  return NORMALIZERS[automatic if name == "auto" else name]


@highest_precision()
def log_normalizer(model: Any, params: Params, carry: Carry, key: Key[Array, ""],
                   examples: Float[Array, "examples *event"] | None = None) -> LogNormalizer:
  """log Z of the data as served: of integers the bound by dequantization enters here, on the other side."""
  found = normalizer_of(model.normalizer, model.spec.num_dims).log_normalizer(model, params, carry, key, examples)
  by_dequantization = Kind.UPPER_BOUND if model.spec.is_discrete else Kind.EXACT
  return dataclasses.replace(found, kind=found.kind + by_dequantization)
