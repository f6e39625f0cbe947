"""Classifier-free guidance: a denoising function made of two."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.sampler import cost
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Guidance:
  """How much is guided, and where.

  Attributes:
    scale: 0 is unconditional, 1 conditional, above 1 guided.
    interval: noise levels sigma / alpha between which it is, the lower first (Kynkaanniemi et al., arXiv:2404.07724,
      equation 6); conditional elsewhere. () is everywhere.
    rescale: share by which guided predictions get the deviation of the conditional ones (Lin et al., arXiv:2305.08891,
      equations 15 and 16), in [0, 1]: high guidance else makes images too contrasted.
  """

  scale: float = 1.0
  interval: tuple[float, ...] = ()
  rescale: float = 0.0

  def __post_init__(self) -> None:
    if not math.isfinite(self.scale):
      raise ConfigError(f"guidance is {self.scale}; it must be finite.")
    if self.interval and not (len(self.interval) == 2 and 0.0 <= self.interval[0] < self.interval[1]):
      raise ConfigError(f"guidance_interval is {self.interval}; it must be two noise levels sigma / alpha, the lower "
                        "one first, or () for all.")
    if not 0.0 <= self.rescale <= 1.0:
      raise ConfigError(f"guidance_rescale is {self.rescale}; it must be in [0, 1].")
    if self.scale == 1.0 and (self.interval or self.rescale):
      raise ConfigError(f"guidance_interval is {self.interval} and guidance_rescale {self.rescale}, but guidance is 1, "
                        "which is none; set it, or leave these out.")


@dataclasses.dataclass(frozen=True)
class Guided:
  """unconditional + scale (conditional - unconditional) (Ho & Salimans, arXiv:2207.12598, with scale = 1 + w).

  At given x_t the predictions of data, noise, v, score and velocity are linear in each other: guiding one guides all.

  Attributes:
    conditional: given the labels.
    unconditional: not given them; None is an error unless scale is 1.
    scale: 0 is unconditional, 1 conditional, above 1 guided.
    interval, rescale: see `Guidance`.
    log_snr: log-SNR of times, where there is an interval.
  """

  conditional: Denoise
  unconditional: Denoise | None
  scale: float
  interval: tuple[float, ...] = ()
  rescale: float = 0.0
  log_snr: Callable[[Array], Array] | None = None

  def __post_init__(self) -> None:
    if self.unconditional is None and self.scale != 1.0:
      raise ConfigError(f"guidance is {self.scale}, which needs a model that was trained with and without labels; give "
                        "labels to such a model, or set guidance to 1.")

  @property
  def cost(self) -> int:
    """Network evaluations of a call."""
    return cost(self.conditional) + (0 if self.unconditional is None else cost(self.unconditional))

  def __call__(self, x: Float[Array, "batch *event"], t: Float[Array, " batch"]) -> Float[Array, "batch *event"]:
    return self._guided(self.conditional(x, t), x, t)

  def with_variance(self, x: Float[Array, "batch *event"],
                    t: Float[Array, " batch"]) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    """Return the guided data, and the conditional function's v, where it has one (`DenoiseWithVariance`)."""
    conditional: Any = self.conditional
    given, fraction = conditional.with_variance(x, t)
    return self._guided(given, x, t), fraction

  def _guided(self, given, x, t):
    if self.unconditional is None:
      return given
    free = self.unconditional(x, t)
    guided = free + self.scale * (given - free)
    if self.rescale:
      axes = tuple(range(1, x.ndim))
      ratio = jnp.std(given, axis=axes, keepdims=True) / jnp.maximum(jnp.std(guided, axis=axes, keepdims=True), 1e-12)
      guided = (self.rescale * ratio + 1.0 - self.rescale) * guided
    if not self.interval or self.log_snr is None:
      return guided
    level = jnp.exp(-0.5 * self.log_snr(t)).reshape(-1, *(1,) * (x.ndim - 1))
    low, high = self.interval
    return jnp.where((level > low) & (level <= high), guided, given)
