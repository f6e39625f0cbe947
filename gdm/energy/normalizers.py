"""The partition function, and what kind of number a log-likelihood becomes by it.

  exact  sums over all states of the smaller side
  ais    annealed importance sampling: log Z from below by chains from the base; and by chains from each example back to
         the base (RAISE) a lower bound of the log-probability that the annealed sampler draws it, which is no bound of
         the model's own (see gdm/inference/annealed_importance.py)
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.errors import ConfigError, nearest
from gdm.inference import annealed_importance as annealing
from gdm.inference import gibbs, missed_modes
from gdm.likelihood import Kind, LogLikelihood, LogNormalizer
from gdm.model import Carry, Params

NUM_STARTS = 64  # chains from each place where missed modes are looked for
SETTLING_STEPS = 100  # of these chains, at the model itself


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

  def starts(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
             examples: Float[Array, "examples dims"] | None) -> list[Float[Array, "num dims"]]: ...

  def log_density(self, params: Params, x: Float[Array, "*lead dims"],
                  beta: Float[Array, ""] | float) -> Float[Array, "*lead"]: ...

  def enumerated_log_normalizer(self, params: Params) -> Float[Array, ""]: ...


@runtime_checkable
class Normalizer(Protocol):
  """A way to normalize."""

  def log_normalizer(self, model: Annealable, params: Params, carry: Carry, key: Key[Array, ""],
                     examples: Float[Array, "examples dims"] | None) -> LogNormalizer:
    """log Z in nats; mass is looked for at examples too."""
    ...

  def log_likelihood(self, model: Annealable, params: Params, x: Float[Array, "batch dims"], key: Key[Array, ""],
                     num_samples: int) -> LogLikelihood:
    """log p(x) in nats, or a lower bound of the annealed sampler's."""
    ...


class Exact:
  """By enumeration."""

  def log_normalizer(self, model, params, carry, key, examples):
    return LogNormalizer(_enumerated(model, params), jnp.zeros(()), Kind.EXACT)

  def log_likelihood(self, model, params, x, key, num_samples):
    nats = model.log_density(params, x, 1.0) - model.enumerated_log_normalizer(params)
    return LogLikelihood.of(nats, model.num_dims)


class Annealed:
  """By annealing to and from the base."""

  def log_normalizer(self, model, params, carry, key, examples):
    look_key, key = jax.random.split(key)
    return annealed_log_z(missed_modes.log_normalizer(
        _look(model, params, carry, look_key, examples), key,
        lambda key, x, weights: _anneal_from(model, params, key, x, weights)))

  def log_likelihood(self, model, params, x, key, num_samples):
    nats = annealing.lower_bound(model.path(params), annealing.ladder(model.num_temperatures), key, x, num_samples)
    return LogLikelihood.of(nats, model.num_dims, Kind.SAMPLER_BOUND, unbiased=True)


# Compiled piece by piece, since a piece may not be needed; a model is hashable and holds no arrays.


@functools.partial(jax.jit, static_argnames=("model",))
def _enumerated(model: Annealable, params: Params) -> Float[Array, ""]:
  return model.enumerated_log_normalizer(params)


@functools.partial(jax.jit, static_argnames=("model",))
def _look(model: Annealable, params: Params, carry: Carry, key: Key[Array, ""],
          examples: Float[Array, "examples dims"] | None) -> missed_modes.Look:
  start_key, key = jax.random.split(key)
  path = model.path(params)

  def settle(key, x):
    return gibbs.repeat(lambda key, x: path.transition(key, x, jnp.ones(())), key, x, SETTLING_STEPS)

  return missed_modes.look(path, key, model.starts(params, carry, start_key, NUM_STARTS, examples),
                           anneal=functools.partial(_run, model), settle=settle, scale=model.scale_of_states(params))


@functools.partial(jax.jit, static_argnames=("model",))
def _anneal_from(model: Annealable, params: Params, key: Key[Array, ""], x: Float[Array, "states dims"],
                 weights: Float[Array, " states"]) -> missed_modes.Run:
  return _run(model, model.path_from(params, x, weights), key)


def _run(model: Annealable, path: annealing.Path, key: Key[Array, ""]) -> missed_modes.Run:
  return annealed_run(annealing.forward(path, annealing.ladder(model.num_temperatures), key, model.num_chains))


def annealed_run(annealed: annealing.Annealed) -> missed_modes.Run:
  """A run whose chains are units of their own."""
  return missed_modes.Run(annealed.x, annealed.log_weights[:, None], least_acceptance(annealed.acceptance))


def least_acceptance(acceptance: Float[Array, "rungs chains"]) -> Float[Array, ""]:
  """Return the least share of moves that the chains accepted at any temperature."""
  return jnp.min(jnp.mean(acceptance, axis=1))


def annealed_log_z(found: missed_modes.Found, rejects: bool = False) -> LogNormalizer:
  """Return the log Z of annealing, below the truth on average, with its interval and what is known of its chains.

  Args:
    found: by annealing, from the base and elsewhere.
    rejects: whether moves can be rejected, so that their acceptance says something.
  """
  log_z = found.log_z
  return LogNormalizer(log_z.nats, log_z.stderr, Kind.LOWER_BOUND, log_z.interval, log_z.effective_sample_size,
                       found.missed, found.acceptance if rejects else None)


def spread_over(examples: Float[Array, "examples *event"], num: int) -> Float[Array, "num *event"]:
  """`num` examples from the first to the last; each several times where there are fewer."""
  return examples[np.linspace(0, len(examples) - 1, num).round().astype(int)]


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
