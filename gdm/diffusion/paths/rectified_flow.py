"""The straight path between data and noise."""

import dataclasses

import jax.numpy as jnp
from jax import Array

from gdm.diffusion.paths.path import Closed, rate
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RectifiedFlow(Closed):
  """alpha = 1 - t, sigma = t: straight lines (Liu et al., arXiv:2209.03003; Lipman et al., arXiv:2210.02747).

  Its velocity is finite everywhere; its SDE is not at t = 1, where f is infinite.

  Example:
    level = RectifiedFlow().level(0.25)
    data, noise = jax.random.normal(key, (2, 16, 4))
    x_t = level.alpha * data + level.sigma * noise
    velocity = level.alpha_rate * data + level.sigma_rate * noise  # noise - data

  Attributes:
    margin: how far its ends are from 0 and 1.
  """

  margin: float = 1e-5

  def __post_init__(self) -> None:
    if not 0.0 <= self.margin < 0.5:
      raise ConfigError(f"margin is {self.margin}; it must be in [0, 0.5).")

  @property
  def ends(self) -> tuple[float, float]:
    return (self.margin, 1.0 - self.margin)

  def _alpha(self, t: Array) -> Array:
    return 1.0 - t

  def _drift(self, t: Array) -> Array:
    return rate(self._alpha, t) / self._alpha(t)

  def _diffusion(self, t: Array) -> Array:
    sigma = self._sigma(t)
    return 2.0 * sigma * (rate(self._sigma, t) - self._drift(t) * sigma)

  def _sigma(self, t: Array) -> Array:
    return t

  def _log_snr(self, t: Array) -> Array:
    return 2.0 * (jnp.log1p(-t) - jnp.log(t))

  def _time(self, log_snr: Array) -> Array:
    return 1.0 / (1.0 + jnp.exp(0.5 * log_snr))
