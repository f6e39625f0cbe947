"""Paths that leave the data alone and only add noise."""

import dataclasses
import math

import jax.numpy as jnp
from jax import Array

from gdm.diffusion.paths.path import Closed, rate
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Exploding(Closed):
  """alpha = 1; the path is defined by sigma alone.

  Attributes:
    sigma_min: the least noise to sample down to; at the data of a geometric path.
    sigma_max: at the noise; about the largest distance between two examples (Song & Ermon, arXiv:2006.09011).
  """

  sigma_min: float = 0.01
  sigma_max: float = 50.0

  def __post_init__(self) -> None:
    if not (0.0 < self.sigma_min < self.sigma_max and math.isfinite(self.sigma_max)):
      raise ConfigError(f"sigma_min is {self.sigma_min} and sigma_max is {self.sigma_max}: the SNR would not fall from "
                        "t = 0 to t = 1; they must be above 0, finite, and sigma_max the larger.")

  def _alpha(self, t: Array) -> Array:
    return jnp.ones_like(t) + 0.0 * t  # NaN where the time is

  def _drift(self, t: Array) -> Array:
    return 0.0 * t

  def _diffusion(self, t: Array) -> Array:
    return 2.0 * self._sigma(t) * rate(self._sigma, t)


@dataclasses.dataclass(frozen=True)
class VE(Exploding):
  """sigma = sigma_min (sigma_max / sigma_min)^t (arXiv:2011.13456, equation 30); at the data it is sigma_min, not 0.

  Example:
    path = VE(sigma_min=0.01, sigma_max=10.0)
    sigma = path.sigma(jnp.linspace(0.0, 1.0, 4))  # 0.01, 0.1, 1, 10
  """

  @property
  def ends(self) -> tuple[float, float]:
    return (0.0, 1.0)

  @property
  def _log_ratio(self) -> float:
    return math.log(self.sigma_max / self.sigma_min)

  def _sigma(self, t: Array) -> Array:
    return self.sigma_min * jnp.exp(self._log_ratio * t)

  def _log_snr(self, t: Array) -> Array:
    return -2.0 * (math.log(self.sigma_min) + self._log_ratio * t)

  def _time(self, log_snr: Array) -> Array:
    return (-0.5 * log_snr - math.log(self.sigma_min)) / self._log_ratio


@dataclasses.dataclass(frozen=True)
class EDMPath(Exploding):
  """sigma = sigma_max t (Karras et al., arXiv:2206.00364, section 3), with the paper's range of noise.

  Example:
    path = EDMPath(sigma_max=40.0)
    t = path.time(-2.0 * jnp.log(2.0))  # 0.05, where sigma is 2
  """

  sigma_min: float = 0.002
  sigma_max: float = 80.0

  @property
  def ends(self) -> tuple[float, float]:
    return (self.sigma_min / self.sigma_max, 1.0)

  def _sigma(self, t: Array) -> Array:
    return self.sigma_max * t

  def _log_snr(self, t: Array) -> Array:
    return -2.0 * jnp.log(self._sigma(t))

  def _time(self, log_snr: Array) -> Array:
    return jnp.exp(-0.5 * log_snr) / self.sigma_max
