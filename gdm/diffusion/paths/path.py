"""Noise paths: x_t = alpha(t) x_0 + sigma(t) noise, from the data at t = 0 to noise at t = 1.

Its log-SNR is lambda(t) = log(alpha^2 / sigma^2), in nats, and falls (Kingma et al., arXiv:2107.00630, section 3.1).
The same path is an SDE dx = f(t) x dt + g(t) dw (Song et al., arXiv:2011.13456, appendix B; arXiv:2107.00630,
appendix B): f = alpha' / alpha and g^2 = (sigma^2)' - 2 f sigma^2 = -sigma^2 lambda'.

Times are in [0, 1]. A time outside is a ConfigError where its value is known, and gives NaN under `jax.jit`.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Key, Num

from gdm.errors import ConfigError

# A time of a path; an array where it depends on parameters.
Time = float | Array


class Level(NamedTuple):
  """A path at some time: the scales of data and noise, and their derivatives by time, None where not needed."""

  alpha: Float[Array, "*shape"]
  sigma: Float[Array, "*shape"]
  alpha_rate: Float[Array, "*shape"] | None = None
  sigma_rate: Float[Array, "*shape"] | None = None

  def like(self, x: Num[Array, "batch *event"]) -> "Level":
    """Return the level of each example [batch], or of all of them, shaped to multiply `x`."""
    rates = (None if a is None else expand(a, x) for a in (self.alpha_rate, self.sigma_rate))
    return Level(expand(self.alpha, x), expand(self.sigma, x), *rates)


class PathSample(NamedTuple):
  """Data, noise, and what lies between them at time t."""

  x: Float[Array, "batch *event"]
  t: Float[Array, " batch"]
  data: Float[Array, "batch *event"]
  noise: Float[Array, "batch *event"]
  level: Level


class Transition(NamedTuple):
  """q(x_t | x_s) of s < t: x_t = scale x_s + sqrt(variance) noise."""

  scale: Float[Array, "*shape"]
  variance: Float[Array, "*shape"]


@runtime_checkable
class NoisePath(Protocol):
  """A noise path. All functions are of each entry of their argument, in its floating type.

  Example:
    path: NoisePath = VPLinear()
    data, noise = jax.random.normal(key, (2, 16, 4))
    x_t = path.alpha(0.5) * data + path.sigma(0.5) * noise
  """

  @property
  def ends(self) -> tuple[Time, Time]:
    """The times to train and sample between: closer to 0 or 1 something is infinite, or nothing is left to gain."""
    ...

  def alpha(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return the factor of the data."""
    ...

  def sigma(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return the factor of the noise."""
    ...

  def log_snr(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """lambda(t) = log(alpha^2 / sigma^2)."""
    ...

  def log_snr_rate(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """lambda'(t), which is negative."""
    ...

  def time(self, log_snr: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return the time of a log-SNR; NaN of one that the path never has."""
    ...

  def level(self, t: Float[ArrayLike, "*shape"]) -> Level:
    """alpha, sigma and their derivatives."""
    ...

  def drift(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """f(t) of the SDE."""
    ...

  def diffusion(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """g(t)^2 of the SDE."""
    ...


@runtime_checkable
class TrainablePath(Protocol):
  """A noise path with parameters in separate groups, which a bound trains.

  Attributes:
    bound_groups: groups on which the bound depends.
    spread_groups: groups on which only the spread of the bound's estimate depends.
  """

  @property
  def bound_groups(self) -> tuple[str, ...]: ...

  @property
  def spread_groups(self) -> tuple[str, ...]: ...

  def init(self, key: Key[Array, ""]) -> Mapping[str, Any]:
    """Return fresh parameters, group -> parameters."""
    ...

  def bind(self, params: Mapping[str, Any]) -> NoisePath:
    """Return the path with these parameters; groups of others are ignored."""
    ...


@dataclasses.dataclass(frozen=True)
class Closed(abc.ABC):
  """A path by formulas of t: what follows from alpha, sigma, lambda and its inverse.

  Subclasses write the formulas so that they keep their digits at both ends.
  """

  @property
  @abc.abstractmethod
  def ends(self) -> tuple[float, float]: ...

  @abc.abstractmethod
  def _alpha(self, t: Array) -> Array: ...

  @abc.abstractmethod
  def _sigma(self, t: Array) -> Array: ...

  @abc.abstractmethod
  def _log_snr(self, t: Array) -> Array: ...

  @abc.abstractmethod
  def _time(self, log_snr: Array) -> Array: ...

  @abc.abstractmethod
  def _drift(self, t: Array) -> Array: ...

  @abc.abstractmethod
  def _diffusion(self, t: Array) -> Array: ...

  def alpha(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self._alpha(inside(t))

  def sigma(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self._sigma(inside(t))

  def log_snr(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self._log_snr(inside(t))

  def log_snr_rate(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return rate(self._log_snr, inside(t))

  def time(self, log_snr: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    t = self._time(jnp.asarray(log_snr))
    slack = 4.0 * jnp.finfo(t.dtype).eps  # the inverse of an end rounds to either side of it
    return jnp.where((t >= -slack) & (t <= 1.0 + slack), jnp.clip(t, 0.0, 1.0), jnp.nan)

  def level(self, t: Float[ArrayLike, "*shape"]) -> Level:
    t = inside(t)
    return Level(self._alpha(t), self._sigma(t), rate(self._alpha, t), rate(self._sigma, t))

  def drift(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self._drift(inside(t))

  def diffusion(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self._diffusion(inside(t))


@dataclasses.dataclass(frozen=True)
class VariancePreserving(Closed):
  """A path with alpha^2 + sigma^2 = 1, so that standardized data keep their variance."""

  def _drift(self, t: Array) -> Array:
    return -0.5 * self._diffusion(t)


@dataclasses.dataclass(frozen=True)
class ByLogSNR(VariancePreserving):
  """A path by its log-SNR: alpha^2 = sigmoid(lambda), sigma^2 = sigmoid(-lambda) (arXiv:2107.00630, section 3.1)."""

  def _alpha(self, t: Array) -> Array:
    return jnp.exp(0.5 * jax.nn.log_sigmoid(self._log_snr(t)))

  def _sigma(self, t: Array) -> Array:
    return jnp.exp(0.5 * jax.nn.log_sigmoid(-self._log_snr(t)))

  def _diffusion(self, t: Array) -> Array:
    return -jax.nn.sigmoid(-self._log_snr(t)) * rate(self._log_snr, t)


def inside(t: Num[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
  """Return the times as an array: those outside [0, 1] are a ConfigError, or NaN where values are not known yet."""
  t = jnp.asarray(t)
  if not jnp.issubdtype(t.dtype, jnp.floating):
    t = t.astype(jnp.float32)
  if isinstance(t, Tracer):
    return jnp.where((t >= 0.0) & (t <= 1.0), t, jnp.nan)
  values = np.asarray(t)  # in numpy, since under a transformation operations even on constants are traced
  outside = ~((values >= 0.0) & (values <= 1.0))
  if outside.any():
    raise ConfigError(f"time is {values[outside].flat[0]}; a path's times are in [0, 1], from data to noise.")
  return t


def rate(function: Callable[[Array], Array], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return the derivative of a function of each entry; NaN where the entry is, also of a constant."""
  return jax.jvp(function, (t,), (jnp.where(jnp.isnan(t), t, 1.0),))[1]


def expand(values: Float[Array, "*shape"], x: Num[Array, "batch *event"]) -> Float[Array, "..."]:
  """Values of examples [batch] with axes added to multiply `x`; single values stay."""
  return values.reshape(values.shape + (1,) * (x.ndim - values.ndim)) if values.ndim else values


def noised(path: NoisePath, data: Float[Array, "batch *event"], noise: Float[Array, "batch *event"],
           t: Float[Array, " batch"]) -> PathSample:
  """x_t of data and standard normal noise."""
  level = path.level(t)
  wide = level.like(data)
  return PathSample(wide.alpha * data + wide.sigma * noise, t, data, noise, level)


def transition(path: NoisePath, s: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Transition:
  """q(x_t | x_s) of times s < t (arXiv:2107.00630, appendix A).

  The variance sigma_t^2 - scale^2 sigma_s^2 is -sigma_t^2 expm1(lambda_t - lambda_s), which does not cancel.
  """
  variance = -(path.sigma(t) ** 2) * jnp.expm1(path.log_snr(t) - path.log_snr(s))
  return Transition(path.alpha(t) / path.alpha(s), variance)


def prior_scale(path: NoisePath) -> Float[Array, ""]:
  """Standard deviation of x at the path's last time if the data has variance one: the scale of the noise to start from.

  It is 1 of a variance-preserving path, whatever its last log-SNR.
  """
  end = jnp.asarray(path.ends[1])
  return jnp.hypot(path.alpha(end), path.sigma(end))


def normalized_log_snr(path: NoisePath, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return how far the log-SNR has fallen between the path's ends: 0 at the first to 1 at the last."""
  first, last = (path.log_snr(jnp.asarray(end, t.dtype)) for end in path.ends)
  return (first - path.log_snr(t)) / (first - last)


def total(values: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """Return the sum over an example's entries."""
  return jnp.sum(values.reshape(values.shape[0], -1), axis=-1)


def require_fall(log_snr_max: float, log_snr_min: float) -> None:
  """Raise a ConfigError unless the log-SNR falls from data to noise."""
  if not (math.isfinite(log_snr_max) and math.isfinite(log_snr_min) and log_snr_max > log_snr_min):
    raise ConfigError(f"log_snr_max is {log_snr_max} and log_snr_min is {log_snr_min}: the log-SNR would not fall from "
                      "t = 0 to t = 1; log_snr_max must be above log_snr_min.")
