"""Bijections that treat each number alone: learned and fixed scales and shifts, and the logit of the unit interval."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.errors import ConfigError, DataError, SpecError
from gdm.flows.bijections.bijection import Bijection, Transformed


def total(values: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """Return the sum over each example."""
  return jnp.sum(values.reshape(values.shape[0], -1), axis=-1)


class ScaleShift(Bijection):
  """y = x exp(s) + shift with a learned s and shift for each entry of the event; at first the identity.

  Example:
    layer, x = ScaleShift(), jax.random.normal(key, (16, 4))
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
    x = layer.apply(variables, y, method="inverse").value
  """

  @nn.compact
  def parameters(self, event: tuple[int, ...]) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    zeros = jax.nn.initializers.zeros
    return self.param("log_scale", zeros, event), self.param("shift", zeros, event)

  def forward(self, x, context=None):
    log_scale, shift = self.parameters(x.shape[1:])
    return Transformed(x * jnp.exp(log_scale) + shift, jnp.full(x.shape[0], jnp.sum(log_scale), x.dtype))

  def inverse(self, y, context=None):
    log_scale, shift = self.parameters(y.shape[1:])
    return Transformed((y - shift) * jnp.exp(-log_scale), jnp.full(y.shape[0], -jnp.sum(log_scale), y.dtype))


class Standardize(Bijection):
  """y = (x - mean) / scale with constants.

  Attributes:
    mean: a number, or one for each entry of the last axis.
    scale: likewise; above 0.

  Example:
    layer, x = Standardize(mean=(0.0, 1.0), scale=2.0), jnp.ones((16, 2))
    y, log_det = layer.apply({}, x)
    x = layer.apply({}, y, method="inverse").value
  """

  mean: float | tuple[float, ...] = 0.0
  scale: float | tuple[float, ...] = 1.0

  def __post_init__(self) -> None:
    if not np.all(np.asarray(self.scale) > 0.0):
      raise ConfigError(f"scale of Standardize is {self.scale}; every scale must be above 0.")
    super().__post_init__()

  def constants(self, x: Float[Array, "batch *event"]) -> tuple[Array, Array, float]:
    """Return the mean, the scale, and the sum of the log-scales over an event."""
    for name, values in (("mean", self.mean), ("scale", self.scale)):
      if np.ndim(values) and len(np.ravel(values)) != x.shape[-1]:
        raise SpecError(f"{name} of Standardize has {len(np.ravel(values))} entries, but the last axis of the event "
                        f"{x.shape[1:]} has {x.shape[-1]}.")
    log_scales = np.broadcast_to(np.log(np.asarray(self.scale, np.float64)), x.shape[1:])
    return jnp.asarray(self.mean, x.dtype), jnp.asarray(self.scale, x.dtype), float(np.sum(log_scales))

  def forward(self, x, context=None):
    mean, scale, log_det = self.constants(x)
    return Transformed((x - mean) / scale, jnp.full(x.shape[0], -log_det, x.dtype))

  def inverse(self, y, context=None):
    mean, scale, log_det = self.constants(y)
    return Transformed(y * scale + mean, jnp.full(y.shape[0], log_det, y.dtype))


class Logit(Bijection):
  """y = logit(alpha + (1 - 2 alpha) x) of x in [0, 1] (RealNVP, Dinh et al., arXiv:1605.08803, section 4.1).

  Compiled code cannot raise: an example with a value outside [0, 1], or at an end of it where alpha is 0, gets the
  log-det NaN, which evaluation and training report as an error. `require_unit_interval` raises on concrete arrays.

  The inverse takes any y. Where |y| is above logit(1 - alpha), x lies outside [0, 1], by less than
  alpha / (1 - 2 alpha): who samples images cuts that off.

  Attributes:
    alpha: how far the ends stay away from 0 and 1; at least 0 and below 0.5.

  Example:
    layer, x = Logit(alpha=0.01), jax.random.uniform(key, (16, 4))
    y, log_det = layer.apply({}, x)
    x = layer.apply({}, y, method="inverse").value
  """

  alpha: float = 0.05

  def __post_init__(self) -> None:
    if not 0.0 <= self.alpha < 0.5:
      raise ConfigError(f"alpha of Logit is {self.alpha}; it must be at least 0 and below 0.5.")
    super().__post_init__()

  def forward(self, x, context=None):
    width = 1.0 - 2.0 * self.alpha
    # 1 - p by itself: near x = 1 it is smaller than what a rounded p could tell.
    p, q = self.alpha + width * x, self.alpha + width * (1.0 - x)
    inside = (x >= 0.0) & (x <= 1.0) & (p > 0.0) & (q > 0.0)
    log_p, log_q = jnp.log(jnp.where(inside, p, 0.5)), jnp.log(jnp.where(inside, q, 0.5))
    log_det = jnp.where(inside, math.log(width) - log_p - log_q, jnp.nan)
    return Transformed(log_p - log_q, total(log_det))

  def inverse(self, y, context=None):
    width = 1.0 - 2.0 * self.alpha
    # The smaller of p and 1 - p keeps its digits.
    small = jax.nn.sigmoid(-jnp.abs(y))
    near = (small - self.alpha) / width
    log_det = jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y) - math.log(width)
    return Transformed(jnp.where(y < 0.0, near, 1.0 - near), total(log_det))


def require_unit_interval(x: np.ndarray | Float[Array, "batch *event"], who: str) -> None:
  """Raise a DataError that names the first example of x with a value outside [0, 1], or NaN."""
  values = np.asarray(x)
  outside = ~((values >= 0.0) & (values <= 1.0))
  if outside.any():
    first = tuple(int(i) for i in np.argwhere(outside)[0])
    raise DataError(f"{who} takes values in [0, 1], but example {first[0]} holds {float(values[first]):g} at "
                    f"{first[1:]}; scale the data first.")
