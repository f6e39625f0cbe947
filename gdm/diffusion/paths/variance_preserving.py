"""Paths that keep the variance of standardized data: alpha^2 + sigma^2 = 1; and sub-VP, which stays below."""

import abc
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gdm import checks
from gdm.diffusion.paths.path import ByLogSNR, Closed, VariancePreserving, require_fall
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class LogSNRLinear(ByLogSNR):
  """lambda falls linearly (arXiv:2107.00630, section 5's fixed schedule).

  Example:
    path = LogSNRLinear(log_snr_max=10.0, log_snr_min=-10.0)
    alpha, sigma = path.alpha(0.5), path.sigma(0.5)  # both sqrt(1 / 2), at a log-SNR of 0

  Attributes:
    log_snr_max: at the data; 13.3 leaves noise of a third of a thousandth.
    log_snr_min: at the noise.
  """

  log_snr_max: float = 13.3
  log_snr_min: float = -5.0

  def __post_init__(self) -> None:
    require_fall(self.log_snr_max, self.log_snr_min)

  @property
  def ends(self) -> tuple[float, float]:
    return (0.0, 1.0)

  def _log_snr(self, t: Array) -> Array:
    return self.log_snr_max + (self.log_snr_min - self.log_snr_max) * t

  def _time(self, log_snr: Array) -> Array:
    return (log_snr - self.log_snr_max) / (self.log_snr_min - self.log_snr_max)


@dataclasses.dataclass(frozen=True)
class IntegratedBeta(VariancePreserving):
  """A path by the noise rate beta(t) and B(t), its integral from 0: alpha = exp(-B / 2), f = -beta / 2, g^2 = beta."""

  @property
  def ends(self) -> tuple[float, float]:
    return (1e-5, 1.0)

  @abc.abstractmethod
  def _beta(self, t: Array) -> Array: ...

  @abc.abstractmethod
  def _integral(self, t: Array) -> Array: ...

  @abc.abstractmethod
  def _time_of(self, integral: Array) -> Array: ...

  def _alpha(self, t: Array) -> Array:
    return jnp.exp(-0.5 * self._integral(t))

  def _sigma(self, t: Array) -> Array:
    return jnp.sqrt(-jnp.expm1(-self._integral(t)))

  def _log_snr(self, t: Array) -> Array:
    # -log(exp(B) - 1) without exp(B), which is infinite in float32 from B = 89 on.
    integral = self._integral(t)
    return -integral - jnp.log(-jnp.expm1(-integral))

  def _time(self, log_snr: Array) -> Array:
    return self._time_of(jax.nn.softplus(-log_snr))

  def _diffusion(self, t: Array) -> Array:
    return self._beta(t)


@dataclasses.dataclass(frozen=True)
class VPLinear(IntegratedBeta):
  """beta(t) from `beta_min` to `beta_max`: DDPM's path in continuous time (arXiv:2011.13456, equation 33).

  Example:
    path = VPLinear(beta_min=0.1, beta_max=20.0)
    drift, diffusion = path.drift(0.5), path.diffusion(0.5)

  Attributes:
    beta_min: at the data; DDPM's first beta of a step times its 1,000 steps.
    beta_max: at the noise.
  """

  beta_min: float = 0.1
  beta_max: float = 20.0

  def __post_init__(self) -> None:
    require_betas(self.beta_min, self.beta_max)

  def _beta(self, t: Array) -> Array:
    return self.beta_min + (self.beta_max - self.beta_min) * t

  def _integral(self, t: Array) -> Array:
    return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

  def _time_of(self, integral: Array) -> Array:
    # The root of a quadratic, in the form that does not cancel near t = 0.
    slope = self.beta_max - self.beta_min
    return 2.0 * integral / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2.0 * slope * integral))


@dataclasses.dataclass(frozen=True)
class SubVP(Closed):
  """sigma = 1 - exp(-B), the square of VP's (arXiv:2011.13456, equations 14 and 29): f = -beta / 2.

  Example:
    path = SubVP(beta_min=0.1, beta_max=20.0)
    variance = path.alpha(0.5) ** 2 + path.sigma(0.5) ** 2  # below 1

  Attributes:
    beta_min, beta_max: of the noise rate, as `VPLinear`'s.
  """

  beta_min: float = 0.1
  beta_max: float = 20.0

  def __post_init__(self) -> None:
    require_betas(self.beta_min, self.beta_max)

  @property
  def ends(self) -> tuple[float, float]:
    return (1e-5, 1.0)

  @property
  def _vp(self) -> VPLinear:
    return VPLinear(self.beta_min, self.beta_max)

  def _alpha(self, t: Array) -> Array:
    return self._vp._alpha(t)

  def _sigma(self, t: Array) -> Array:
    return -jnp.expm1(-self._vp._integral(t))

  def _log_snr(self, t: Array) -> Array:
    integral = self._vp._integral(t)
    return -integral - 2.0 * jnp.log(-jnp.expm1(-integral))

  def _time(self, log_snr: Array) -> Array:
    # sigma / alpha = 2 sinh(B / 2), and asinh(exp(y)) = y + log(1 + hypot(1, exp(-y))): no overflow above 0.
    y = -0.5 * log_snr - math.log(2.0)
    far = y + jnp.log1p(jnp.hypot(1.0, jnp.exp(-jnp.maximum(y, 0.0))))
    return self._vp._time_of(2.0 * jnp.where(y > 0.0, far, jnp.arcsinh(jnp.exp(jnp.minimum(y, 0.0)))))

  def _drift(self, t: Array) -> Array:
    return -0.5 * self._vp._beta(t)

  def _diffusion(self, t: Array) -> Array:
    return -self._vp._beta(t) * jnp.expm1(-2.0 * self._vp._integral(t))


@dataclasses.dataclass(frozen=True)
class PiecewiseBeta(IntegratedBeta):
  """A discrete-time schedule as a path: its alpha_bar at the times i / T, and a constant noise rate between them.

  Attributes:
    betas: of the T steps, each in (0, 1), as DDPM's (arXiv:2006.11239, section 2).
  """

  betas: tuple[float, ...]

  def __post_init__(self) -> None:
    if not self.betas:
      raise ConfigError("betas is empty; a schedule has at least one step.")
    for i, beta in enumerate(self.betas):
      if not 0.0 < beta < 1.0:
        raise ConfigError(f"betas[{i}] is {beta}; it must be in (0, 1): at or below 0 the SNR would not fall from step "
                          f"{i} to {i + 1}, at 1 nothing of the data is left.")

  @functools.cached_property
  def _table(self) -> np.ndarray:
    """B at 0, 1 / T, ..., 1."""
    return np.concatenate([[0.0], np.cumsum(-np.log1p(-np.asarray(self.betas)))])

  def _beta(self, t: Array) -> Array:
    num = len(self.betas)
    step = jnp.clip(jnp.ceil(t * num).astype(jnp.int32) - 1, 0, num - 1)
    betas = jnp.asarray(num * np.diff(self._table), t.dtype)[step]
    return jnp.where(jnp.isnan(t), t, betas)

  def _integral(self, t: Array) -> Array:
    num = len(self.betas)
    knots = jnp.asarray(np.arange(num + 1) / num, t.dtype)
    return jnp.where(jnp.isnan(t), t, jnp.interp(t, knots, jnp.asarray(self._table, t.dtype)))

  def _time_of(self, integral: Array) -> Array:
    num = len(self.betas)
    table = jnp.asarray(self._table, integral.dtype)
    knots = jnp.asarray(np.arange(num + 1) / num, integral.dtype)
    slack = 4.0 * jnp.finfo(integral.dtype).eps
    return jnp.where(integral > table[-1] * (1.0 + slack), jnp.nan, jnp.interp(integral, table, knots))


@dataclasses.dataclass(frozen=True)
class Cosine(VariancePreserving):
  """alpha = cos(u) / cos(u_0) of u = (t + s) / (1 + s) pi / 2 (Nichol & Dhariwal, arXiv:2102.09672, equation 17).

  At t = 1 nothing of the data is left and the noise rate is infinite, so it ends a thousandth before; the paper clips
  its betas there, which `discretize` does.

  Example:
    path = Cosine()
    alpha, sigma = path.alpha(0.5), path.sigma(0.5)

  Attributes:
    offset: s, which keeps the first steps from having too little noise.
  """

  offset: float = 0.008

  def __post_init__(self) -> None:
    checks.positive("offset of a cosine path", self.offset, "(0.008 in the paper)")

  @property
  def ends(self) -> tuple[float, float]:
    return (1e-5, 0.999)

  @property
  def _first(self) -> float:
    return self.offset / (1.0 + self.offset) * math.pi / 2.0

  def _left(self, t: Array) -> Array:
    """pi / 2 - u: the cosine of u is its sine, which keeps its digits at t = 1."""
    return (1.0 - t) / (1.0 + self.offset) * (math.pi / 2.0)

  def _alpha(self, t: Array) -> Array:
    return jnp.sin(self._left(t)) / math.cos(self._first)

  def _sigma(self, t: Array) -> Array:
    # cos^2(u_0) - cos^2(u) = sin(u - u_0) sin(u + u_0).
    since = t / (1.0 + self.offset) * (math.pi / 2.0)
    return jnp.sqrt(jnp.sin(since) * jnp.sin(since + 2.0 * self._first)) / math.cos(self._first)

  def _log_snr(self, t: Array) -> Array:
    return 2.0 * (jnp.log(self._alpha(t)) - jnp.log(self._sigma(t)))

  def _time(self, log_snr: Array) -> Array:
    # By both legs of the triangle: an arc cosine alone loses its digits where alpha is near 1.
    alpha = jnp.exp(0.5 * jax.nn.log_sigmoid(log_snr)) * math.cos(self._first)
    opposite = jnp.sqrt(jax.nn.sigmoid(-log_snr) * math.cos(self._first) ** 2 + math.sin(self._first) ** 2)
    return jnp.arctan2(opposite, alpha) * (1.0 + self.offset) * (2.0 / math.pi) - self.offset

  def _diffusion(self, t: Array) -> Array:
    return math.pi / (1.0 + self.offset) / jnp.tan(self._left(t))


def require_betas(beta_min: float, beta_max: float) -> None:
  """Raise a ConfigError unless a noise rate from `beta_min` to `beta_max` is positive everywhere."""
  for name, value, where in (("beta_min", beta_min, "0"), ("beta_max", beta_max, "1")):
    if not (value > 0.0 and math.isfinite(value)):
      raise ConfigError(f"{name} is {value}: the SNR would not fall at t = {where}; it must be finite and above 0.")
