"""Base distributions of flows: where the data is led to. Log-densities in nats."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.errors import ConfigError
from gdm.flows.bijections.elementwise import total

Params = Mapping[str, Array]


@runtime_checkable
class Base(Protocol):
  """A distribution of examples of any shape, with a density and exact draws."""

  def init(self, key: Key[Array, ""], event: tuple[int, ...]) -> Params:
    """Its parameters at the start; {} where nothing is learned."""
    ...

  def log_prob(self, params: Params, z: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    """Log-density of each example, in nats; -inf outside the support."""
    ...

  def sample(self, params: Params, key: Key[Array, ""], num: int, event: tuple[int, ...],
             temperature: float = 1.0) -> Float[Array, "num *event"]:
    """Draw; `temperature` multiplies the distance from the centre, so that 0 gives the centre itself."""
    ...


@runtime_checkable
class HasChoice(Protocol):
  """A base whose draws begin with a choice among components, through which no gradient passes."""

  def log_choice(self, params: Params, z: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    """Return the log-density of each example, with gradients by the probabilities of the choice alone."""
    ...


@dataclasses.dataclass(frozen=True)
class Normal:
  """Independent standard normals.

  Example:
    base = Normal()
    z = base.sample({}, key, 16, event=(4,))
    nats = base.log_prob({}, z)
  """

  def init(self, key, event):
    return {}

  def log_prob(self, params, z):
    return total(jax.scipy.stats.norm.logpdf(z))

  def sample(self, params, key, num, event, temperature=1.0):
    return temperature * jax.random.normal(key, (num, *event))


@dataclasses.dataclass(frozen=True)
class Logistic:
  """Independent standard logistics: NICE's (Dinh et al., arXiv:1410.8516, section 3.4), of heavier tails.

  Example:
    base = Logistic()
    z = base.sample({}, key, 16, event=(4,))
    nats = base.log_prob({}, z)
  """

  def init(self, key, event):
    return {}

  def log_prob(self, params, z):
    return total(jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z))

  def sample(self, params, key, num, event, temperature=1.0):
    return temperature * jax.random.logistic(key, (num, *event))


@dataclasses.dataclass(frozen=True)
class Uniform:
  """Independent uniforms; the base of a flow that ends in an interval, as a spline without tails does.

  Attributes:
    low: lower end.
    high: upper end, above it.

  Example:
    base = Uniform(low=-3.0, high=3.0)
    z = base.sample({}, key, 16, event=(4,))
    nats = base.log_prob({}, z)
  """

  low: float = 0.0
  high: float = 1.0

  def __post_init__(self) -> None:
    if not self.low < self.high:
      raise ConfigError(f"a uniform base has low {self.low} and high {self.high}; low must be below high.")

  def init(self, key, event):
    return {}

  def log_prob(self, params, z):
    inside = (z >= self.low) & (z <= self.high)
    return total(jnp.where(inside, jnp.asarray(-math.log(self.high - self.low), z.dtype), -jnp.inf))

  def sample(self, params, key, num, event, temperature=1.0):
    centre = 0.5 * (self.low + self.high)
    draws = jax.random.uniform(key, (num, *event), minval=self.low, maxval=self.high)
    return centre + temperature * (draws - centre)


@dataclasses.dataclass(frozen=True)
class MixtureOfNormals:
  """A learned mixture of Gaussians over whole examples, each component with a mean and a scale for every entry.

  Attributes:
    num_components: at least 1.
    spread: standard deviation of the means at the start, about the origin; all scales start at 1.

  Example:
    base = MixtureOfNormals(num_components=3)
    params = base.init(key, event=(4,))
    z = base.sample(params, key, 16, event=(4,))
    nats = base.log_prob(params, z)
  """

  num_components: int = 8
  spread: float = 1.0

  def __post_init__(self) -> None:
    if self.num_components < 1:
      raise ConfigError(f"a mixture base has num_components {self.num_components}; it must be at least 1.")

  def init(self, key, event):
    shape = (self.num_components, *event)
    return {"logits": jnp.zeros(self.num_components), "means": self.spread * jax.random.normal(key, shape),
            "log_scales": jnp.zeros(shape)}

  def log_prob(self, params, z):
    noise = (z[:, None] - params["means"]) * jnp.exp(-params["log_scales"])
    each = jax.scipy.stats.norm.logpdf(noise) - params["log_scales"]
    joint = jax.nn.log_softmax(params["logits"]) + jnp.sum(each.reshape(*each.shape[:2], -1), axis=-1)
    return jax.nn.logsumexp(joint, axis=-1)

  def log_choice(self, params, z):
    return self.log_prob({**jax.lax.stop_gradient(params), "logits": params["logits"]}, jax.lax.stop_gradient(z))

  def sample(self, params, key, num, event, temperature=1.0):
    """Draw; `temperature` multiplies the components' scales and leaves their weights and means."""
    pick_key, noise_key = jax.random.split(key)
    pick = jax.random.categorical(pick_key, params["logits"], shape=(num,))
    noise = jax.random.normal(noise_key, (num, *event), params["means"].dtype)
    return params["means"][pick] + temperature * jnp.exp(params["log_scales"][pick]) * noise
