"""The partition function, and what kind of number a log-likelihood becomes by it.

  exact  sums over all states of the smaller side
  ais    annealed importance sampling: log Z from below by chains from the base; and by chains from each example back to
         the base (RAISE) a lower bound of the log-probability that the annealed sampler draws it, which is no bound of
         the model's own (see gdm/inference/annealed_importance.py)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.errors import ConfigError, nearest
from gdm.inference import annealed_importance as annealing
from gdm.inference import missed_modes
from gdm.likelihood import Kind, LogLikelihood, LogNormalizer
from gdm.model import Carry, Params

NUM_STARTS = 64  # chains from each place where missed modes are looked for


@runtime_checkable
class Annealable(Protocol):
  """What the normalizers need of a model."""

  @property
  def num_dims(self) -> int: ...

  @property
  def num_temperatures(self) -> int: ...

  @property
  def num_chains(self) -> int: ...

  def path(self, params: Params) -> annealing.Path: ...

  def path_from(self, params: Params, x: Float[Array, "states dims"],
                weights: Float[Array, " states"]) -> annealing.Path: ...

  def scale_of_states(self, params: Params) -> Float[Array, " dims"] | float: ...

  def starts(self, params: Params, carry: Carry, key: Key[Array, ""],
             num: int) -> list[Float[Array, "num dims"]]: ...

  def log_density(self, params: Params, x: Float[Array, "*lead dims"],
                  beta: Float[Array, ""] | float) -> Float[Array, "*lead"]: ...

  def enumerated_log_normalizer(self, params: Params) -> Float[Array, ""]: ...


@runtime_checkable
class Normalizer(Protocol):
  """A way to normalize."""

  def log_normalizer(self, model: Annealable, params: Params, carry: Carry, key: Key[Array, ""]) -> LogNormalizer:
    """log Z in nats."""
    ...

  def log_likelihood(self, model: Annealable, params: Params, x: Float[Array, "batch dims"], key: Key[Array, ""],
                     num_samples: int) -> LogLikelihood:
    """log p(x) in nats, or a lower bound of the annealed sampler's."""
    ...


class Exact:
  """By enumeration."""

  def log_normalizer(self, model, params, carry, key):
    return LogNormalizer(model.enumerated_log_normalizer(params), jnp.zeros(()), Kind.EXACT)

  def log_likelihood(self, model, params, x, key, num_samples):
    nats = model.log_density(params, x, 1.0) - model.enumerated_log_normalizer(params)
    return LogLikelihood.of(nats, model.num_dims)


class Annealed:
  """By annealing to and from the base."""

  def log_normalizer(self, model, params, carry, key):
    start_key, key = jax.random.split(key)
    found = missed_modes.log_normalizer(
        model.path(params), annealing.ladder(model.num_temperatures), key, model.num_chains,
        model.starts(params, carry, start_key, NUM_STARTS),
        lambda x, weights: model.path_from(params, x, weights), model.scale_of_states(params))
    return dataclasses.replace(annealed_log_z(found.log_z), missed=found.missed)

  def log_likelihood(self, model, params, x, key, num_samples):
    nats = annealing.lower_bound(model.path(params), annealing.ladder(model.num_temperatures), key, x, num_samples)
    return LogLikelihood.of(nats, model.num_dims, Kind.SAMPLER_BOUND, unbiased=True)


def annealed_log_z(found: annealing.Estimate, acceptance: Float[Array, ""] | None = None) -> LogNormalizer:
  """Return the log Z of annealing, below the truth on average, with its interval and effective sample size.

  Args:
    found: by the log-weights.
    acceptance: the least share of moves that were accepted at any temperature; None where none can be rejected.
  """
  return LogNormalizer(found.nats, found.stderr, Kind.LOWER_BOUND, found.interval, found.effective_sample_size,
                       acceptance=acceptance)


def normalized_by(model: Any, name: str, settings: Mapping[str, Any]) -> Any:
  """The model with another normalizer, and its settings: `num_temperatures` and `num_chains`.

  Raises ConfigError for other settings, or where one is no whole number.
  """
  known = ("num_temperatures", "num_chains")
  for setting, value in settings.items():
    if setting not in known:
      raise ConfigError(f"likelihood {name} has no setting {setting!r}; {nearest(setting, known)}")
    if not isinstance(value, int):
      raise ConfigError(f"{setting} of likelihood {name} is {value!r}; it must be a whole number.")
  return dataclasses.replace(model, normalizer=name, **settings)


NORMALIZERS: Mapping[str, Normalizer] = {"exact": Exact(), "ais": Annealed()}
