"""Guidance: denoisers made of denoisers. What takes a denoiser takes a guided one."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdm import checks
from gdm.errors import ConfigError
from gdm.model import Denoiser


def classifier_guided(denoiser: Denoiser, log_label_probs: Callable[[Array, Array], Array],
                      labels: Int[Array, " batch"], scale: float = 1.0) -> Denoiser:
  """Return a denoiser that is moved along the gradient of a classifier's log p(y | x_t) (Dhariwal & Nichol,
  arXiv:2105.05233, algorithm 2; of the mean of x_0 by Tweedie's formula, sigma_t^2 / alpha_t times as much).

  Args:
    denoiser: the denoiser.
    log_label_probs: (x, deviation) -> [batch, classes] in nats, differentiable in x: examples in the data's units plus
      normal noise of that deviation, which broadcasts over x; `noised_log_label_probs` of a classifier that was
      trained on noise (`gdm.model.HasNoisedLabelProbs`).
    labels: the labels to move to; a call has a multiple of as many rows.
    scale: 1 is Bayes's rule, above 1 sharper.
  """
  checks.at_least("scale", scale, 0.0)

  def log_prob(x: Array, t: Array) -> Array:
    alpha, sigma = (level(t).reshape(-1, *(1,) * (x.ndim - 1)) for level in (denoiser.alpha, denoiser.sigma))
    found = log_label_probs(denoiser.data(x / alpha), jnp.asarray(denoiser.scale * sigma / alpha))
    return jnp.sum(jnp.take_along_axis(found, jnp.tile(labels, len(x) // len(labels))[:, None], axis=1))

  def mean(x: Array, t: Array) -> Array:
    factor = (scale * denoiser.sigma(t) ** 2 / denoiser.alpha(t)).reshape(-1, *(1,) * (x.ndim - 1))
    return denoiser.mean(x, t) + factor * jax.grad(log_prob)(x, t)

  return dataclasses.replace(denoiser, mean=mean)


def extrapolated(denoiser: Denoiser, weaker: Denoiser, scale: float) -> Denoiser:
  """Return weaker + scale (denoiser - weaker): classifier-free guidance where the weaker one is not given the labels
  (arXiv:2207.12598), autoguidance where it is a smaller or less trained model of the same data (Karras et al.,
  arXiv:2406.02507, equation 3).

  Args:
    denoiser: the denoiser, whose path and scaling are kept.
    weaker: a denoiser of the same data; it may have another path.
    scale: 1 is the denoiser, above 1 moves further from the weaker one.
  """
  checks.at_least("scale", scale, 0.0)

  def mean(x: Array, t: Array) -> Array:
    # The weaker one at its own time of the same noise, with x scaled to its path.
    own = jnp.clip(weaker.time(denoiser.log_snr(t)), *weaker.ends)
    factor = (weaker.alpha(own) / denoiser.alpha(t)).reshape(-1, *(1,) * (x.ndim - 1))
    other = weaker.mean(x * factor, own)
    return other + scale * (denoiser.mean(x, t) - other)

  return dataclasses.replace(denoiser, mean=mean, cost=denoiser.cost + weaker.cost)


def within_interval(guided: Denoiser, plain: Denoiser, low: float, high: float) -> Denoiser:
  """Return a denoiser that is guided only where sigma / alpha is between `low` and `high` (Kynkaanniemi et al.,
  arXiv:2404.07724, equation 6). Both are evaluated at every time.

  Raise ConfigError unless 0 <= low < high.
  """
  if not 0.0 <= low < high:
    raise ConfigError(f"the interval is {low} to {high}; it must be noise levels sigma / alpha, the first one lower.")

  def mean(x: Array, t: Array) -> Array:
    level = denoiser_level(guided, t).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where((level > low) & (level <= high), guided.mean(x, t), plain.mean(x, t))

  return dataclasses.replace(guided, mean=mean, cost=guided.cost + plain.cost)


def rescaled(guided: Denoiser, plain: Denoiser, share: float = 0.7) -> Denoiser:
  """Return a guided denoiser whose predictions have the deviation of the plain ones, by a share (Lin et al.,
  arXiv:2305.08891, equations 15 and 16, of predicted data): high guidance else makes images too contrasted.

  `share` is 0 (no change) to 1. Raise ConfigError where it is not.
  """
  if not 0.0 <= share <= 1.0:
    raise ConfigError(f"share is {share}; it must be in [0, 1].")

  def mean(x: Array, t: Array) -> Array:
    one, other = guided.mean(x, t), plain.mean(x, t)
    axes = tuple(range(1, x.ndim))
    ratio = jnp.std(other, axis=axes, keepdims=True) / jnp.maximum(jnp.std(one, axis=axes, keepdims=True), 1e-12)
    return (share * ratio + 1.0 - share) * one

  return dataclasses.replace(guided, mean=mean, cost=guided.cost + plain.cost)


def thresholded(denoiser: Denoiser, share: float = 0.995) -> Denoiser:
  """Return a denoiser with dynamic thresholding (Saharia et al., arXiv:2205.11487, section 2.3): where the quantile
  `share` of a prediction's absolute values is beyond the data's limits, it is clipped there and scaled back.

  Raise ConfigError where the data has no limits, or the share is not in (0, 1].
  """
  if denoiser.limits is None:
    raise ConfigError("dynamic thresholding needs data with limits, but these are real numbers; leave it out.")
  if not 0.0 < share <= 1.0:
    raise ConfigError(f"share is {share}; it must be in (0, 1].")
  low, high = denoiser.limits
  middle, half = 0.5 * (low + high), 0.5 * (high - low)

  def mean(x: Array, t: Array) -> Array:
    centred = (denoiser.mean(x, t) - middle) / half
    size = jnp.quantile(jnp.abs(centred), share, axis=tuple(range(1, x.ndim)), keepdims=True)
    size = jnp.maximum(size, 1.0)
    return middle + half * jnp.clip(centred, -size, size) / size

  return dataclasses.replace(denoiser, mean=mean)


def denoiser_level(denoiser: Denoiser, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return sigma / alpha at times."""
  return jnp.exp(-0.5 * denoiser.log_snr(t))


def time_of_level(denoiser: Denoiser, level: float) -> Float[Array, ""]:
  """Return the time at which sigma / alpha is `level`, or the nearest end of the path. Raise ConfigError unless it is
  positive."""
  checks.positive("noise level", level, "(sigma / alpha)")
  last, first = (denoiser.log_snr(jnp.asarray(end, jnp.float32)) for end in denoiser.ends)
  return denoiser.time(jnp.clip(jnp.asarray(-2.0 * math.log(level), jnp.float32), first, last))
