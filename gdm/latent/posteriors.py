"""Families of approximate posteriors q(z | x), by what the encoder makes of x.

A draw is a function of standard normal noise, so that gradients go through it (Kingma and Welling, arXiv:1312.6114,
section 2.4).
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.model import PyTree
from gdm.networks.masked_mlp import AutoregressiveMLP

LEAST_LOG_SCALE = -8.0  # of a posterior, in nats; a smooth floor


class Posterior(abc.ABC):
  """A family of distributions of latents z [dims]; `features` [batch, num_features] are the encoder's."""

  @abc.abstractmethod
  def num_features(self, dims: int) -> int:
    """Return how many numbers the encoder makes of each example."""

  def init(self, key: Key[Array, ""], dims: int) -> Mapping[str, PyTree]:
    """Return its own parameters."""
    return {}

  @abc.abstractmethod
  def draw(self, own: Mapping[str, Any], features: Float[Array, "batch features"],
           noise: Float[Array, "batch dims"]) -> tuple[Float[Array, "batch dims"], Float[Array, " batch"]]:
    """Return z made of standard normal noise, and log q(z | x) in nats."""

  @abc.abstractmethod
  def centre(self, own: Mapping[str, Any], features: Float[Array, "batch features"]) -> Float[Array, "batch dims"]:
    """Return the z that noise of zero becomes: the mean of a Gaussian."""


class DensePosterior(Posterior):
  """A family whose density is known at every z, and its divergence from a standard normal in closed form."""

  @abc.abstractmethod
  def noise_of(self, features: Float[Array, "batch features"],
               z: Float[Array, "batch dims"]) -> Float[Array, "batch dims"]:
    """Return the noise that becomes z."""

  @abc.abstractmethod
  def log_prob(self, features: Float[Array, "batch features"], z: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
    """Return log q(z | x) in nats."""

  @abc.abstractmethod
  def kl_to_normal(self, features: Float[Array, "batch features"]) -> Float[Array, "batch dims"]:
    """Return KL(q(z | x) || N(0, I)) in nats, a term for each dimension."""


@dataclasses.dataclass(frozen=True)
class Diagonal(DensePosterior):
  """A Gaussian of independent dimensions: features are means, then log-scales."""

  def num_features(self, dims: int) -> int:
    return 2 * dims

  def draw(self, own: Mapping[str, Any], features: Float[Array, "batch features"],
           noise: Float[Array, "batch dims"]) -> tuple[Float[Array, "batch dims"], Float[Array, " batch"]]:
    mean, log_scale = moments(features)
    return mean + jnp.exp(log_scale) * noise, normal_log_prob(noise) - jnp.sum(log_scale, axis=1)

  def centre(self, own: Mapping[str, Any], features: Float[Array, "batch features"]) -> Float[Array, "batch dims"]:
    return moments(features)[0]

  def noise_of(self, features: Float[Array, "batch features"],
               z: Float[Array, "batch dims"]) -> Float[Array, "batch dims"]:
    mean, log_scale = moments(features)
    return (z - mean) * jnp.exp(-log_scale)

  def log_prob(self, features: Float[Array, "batch features"], z: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
    return normal_log_prob(self.noise_of(features, z)) - jnp.sum(moments(features)[1], axis=1)

  def kl_to_normal(self, features: Float[Array, "batch features"]) -> Float[Array, "batch dims"]:
    mean, log_scale = moments(features)
    return 0.5 * (jnp.square(mean) + jnp.exp(2.0 * log_scale) - 1.0) - log_scale


@dataclasses.dataclass(frozen=True)
class Full(DensePosterior):
  """A Gaussian with all covariances: features are means, log-scales, and the rest of a lower triangular factor."""

  def num_features(self, dims: int) -> int:
    return 2 * dims + dims * (dims - 1) // 2

  def draw(self, own: Mapping[str, Any], features: Float[Array, "batch features"],
           noise: Float[Array, "batch dims"]) -> tuple[Float[Array, "batch dims"], Float[Array, " batch"]]:
    mean, log_scale, factor = self._parts(features)
    z = mean + jnp.einsum("bij,bj->bi", factor, noise)
    return z, normal_log_prob(noise) - jnp.sum(log_scale, axis=1)

  def centre(self, own: Mapping[str, Any], features: Float[Array, "batch features"]) -> Float[Array, "batch dims"]:
    return self._parts(features)[0]

  def noise_of(self, features: Float[Array, "batch features"],
               z: Float[Array, "batch dims"]) -> Float[Array, "batch dims"]:
    mean, _, factor = self._parts(features)
    return jax.scipy.linalg.solve_triangular(factor, (z - mean)[..., None], lower=True)[..., 0]

  def log_prob(self, features: Float[Array, "batch features"], z: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
    return normal_log_prob(self.noise_of(features, z)) - jnp.sum(self._parts(features)[1], axis=1)

  def kl_to_normal(self, features: Float[Array, "batch features"]) -> Float[Array, "batch dims"]:
    mean, log_scale, factor = self._parts(features)
    # The trace of the covariance is the sum of all squares in its factor; row i is of dimension i.
    return 0.5 * (jnp.square(mean) + jnp.sum(jnp.square(factor), axis=2) - 1.0) - log_scale

  def _parts(self, features: Float[Array, "batch features"]
             ) -> tuple[Float[Array, "batch dims"], Float[Array, "batch dims"], Float[Array, "batch dims dims"]]:
    # n = 2 d + d (d - 1) / 2 = d (d + 3) / 2 features.
    dims = round((math.sqrt(9.0 + 8.0 * features.shape[1]) - 3.0) / 2.0)
    mean, log_scale = moments(features[:, :2 * dims])
    rows, columns = jnp.tril_indices(dims, -1)
    factor = jax.vmap(jnp.diag)(jnp.exp(log_scale)).at[:, rows, columns].set(features[:, 2 * dims:])
    return mean, log_scale, factor


@dataclasses.dataclass(frozen=True)
class InverseAutoregressive(Posterior):
  """A Gaussian that masked networks bend (Kingma et al., arXiv:1606.04934, equations 10 and 11): z' = s z + (1 - s) m.

  Each step sees the encoder's context and the dimensions before; the order of the dimensions is reversed after each.
  Densities are known for its own draws only.

  Attributes:
    num_layers: masked networks.
    hidden: units of the layers of each.
    context: numbers that the encoder makes beside means and log-scales, for the networks.
  """

  num_layers: int = 2
  hidden: tuple[int, ...] = (64,)
  context: int = 32

  def __post_init__(self) -> None:
    checks.at_least("posterior.num_layers", self.num_layers, 1)
    checks.sizes("posterior.hidden", self.hidden)
    checks.at_least("posterior.context", self.context, 1)

  def num_features(self, dims: int) -> int:
    return 2 * dims + self.context

  def init(self, key: Key[Array, ""], dims: int) -> Mapping[str, PyTree]:
    network, keys = self._network(dims), jax.random.split(key, self.num_layers)
    z, context = jnp.zeros((1, dims)), jnp.zeros((1, self.context))
    return {f"layer_{i}": network.init(keys[i], z, context)["params"] for i in range(self.num_layers)}

  def draw(self, own: Mapping[str, Any], features: Float[Array, "batch features"],
           noise: Float[Array, "batch dims"]) -> tuple[Float[Array, "batch dims"], Float[Array, " batch"]]:
    dims = noise.shape[1]
    mean, log_scale = moments(features[:, :2 * dims])
    context, network = features[:, 2 * dims:], self._network(dims)
    z, log_q = mean + jnp.exp(log_scale) * noise, normal_log_prob(noise) - jnp.sum(log_scale, axis=1)
    for i in range(self.num_layers):
      made: Any = network.apply({"params": own[f"layer_{i}"]}, z, context)
      # A gate that starts at 0.88: at first each step nearly keeps z.
      shift, log_gate = made[..., 0], jax.nn.log_sigmoid(made[..., 1] + 2.0)
      gate = jnp.exp(log_gate)
      z = (gate * z + (1.0 - gate) * shift)[:, ::-1]
      log_q = log_q - jnp.sum(log_gate, axis=1)
    return z, log_q

  def centre(self, own: Mapping[str, Any], features: Float[Array, "batch features"]) -> Float[Array, "batch dims"]:
    dims = (features.shape[1] - self.context) // 2
    return self.draw(own, features, jnp.zeros((features.shape[0], dims)))[0]

  def _network(self, dims: int) -> AutoregressiveMLP:
    return AutoregressiveMLP(dims, 2, self.hidden, self.context)


def moments(features: Float[Array, "batch features"]) -> tuple[Float[Array, "batch dims"], Float[Array, "batch dims"]]:
  """Return means and log-scales, the first and second half of the features; log-scales have a smooth floor."""
  mean, raw = jnp.split(features, 2, axis=1)
  return mean, LEAST_LOG_SCALE + jax.nn.softplus(raw - LEAST_LOG_SCALE)


def normal_log_prob(z: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
  """Return the log-density of a standard normal, in nats."""
  return -0.5 * jnp.sum(jnp.square(z), axis=1) - 0.5 * z.shape[1] * math.log(2.0 * math.pi)
