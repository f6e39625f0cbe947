"""Mixtures of logistics over integer levels, in nats (PixelCNN++: Salimans et al., arXiv:1701.05517, section 2).

Levels 0, ..., L - 1 lie evenly in [-1, 1]; the probability of a level is that of its bin, which reaches half way to its
neighbours, and the outermost bins take the tails: equation 2. So all levels together have probability one.

One component is picked for all channels of a pixel. Its means are coupled: a channel's mean moves linearly with the
channels before it (equation 3; for red, green and blue three coefficients, for C channels C (C - 1) / 2).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from gdm.distributions import categorical


class LogisticMixture(NamedTuple):
  """The parameters of one pixel's mixture of `size` components.

  Attributes:
    logits: unnormalized log-weights.
    means: of each channel, in [-1, 1] mostly, before its coupling.
    log_scales: of each channel, in the same unit.
    coefficients: of the pairs (channel, earlier channel): (1, 0), (2, 0), (2, 1), (3, 0), ...; of no pairs at all where
      channels are not coupled.
  """

  logits: Float[Array, "*shape size"]
  means: Float[Array, "*shape channels size"]
  log_scales: Float[Array, "*shape channels size"]
  coefficients: Float[Array, "*shape pairs size"]


def num_parameters(channels: int, size: int, coupled: bool = True) -> int:
  """Outputs that a network needs per pixel: 10 per component of three coupled channels."""
  return size * (1 + 2 * channels + (_num_pairs(channels) if coupled else 0))


def from_outputs(outputs: Float[Array, "*shape outputs"], channels: int, coupled: bool = True) -> LogisticMixture:
  """Return a network's `num_parameters` outputs as a mixture; coefficients go through tanh as in PixelCNN++."""
  pairs = _num_pairs(channels) if coupled else 0
  parts = outputs.reshape(*outputs.shape[:-1], 1 + 2 * channels + pairs, -1)
  means, log_scales, coefficients = jnp.split(parts[..., 1:, :], [channels, 2 * channels], axis=-2)
  return LogisticMixture(parts[..., 0, :], means, log_scales, jnp.tanh(coefficients))


def log_prob(mixture: LogisticMixture, x: Num[Array, "*shape channels"], levels: int) -> Float[Array, "*shape"]:
  """Log-probability of pixels whose channels x are in [0, levels)."""
  each = jnp.sum(log_bin(_moved(mixture, x, levels), mixture.log_scales, x[..., None], levels), axis=-2)
  return jax.nn.logsumexp(jax.nn.log_softmax(mixture.logits, axis=-1) + each, axis=-1)


def chain_log_probs(mixture: LogisticMixture, x: Num[Array, "*shape channels"],
                    levels: int) -> Float[Array, "*shape channels"]:
  """Log-probability of each channel given those before it; their sum is `log_prob`.

  The components that explained the earlier channels well weigh more in the later ones.
  """
  before = _log_weights(mixture, log_bin(_moved(mixture, x, levels), mixture.log_scales, x[..., None], levels))
  sums = jax.nn.logsumexp(before, axis=-1)
  return sums[..., 1:] - sums[..., :-1]


def level_log_probs(mixture: LogisticMixture, x: Num[Array, "*shape channels"], channel: Int[Array, ""] | int,
                    levels: int) -> Float[Array, "*shape levels"]:
  """Log-probabilities of all levels of one channel, which may be traced, given the channels of x before it.

  The channel's own value in x and later ones change nothing.
  """
  means = _moved(mixture, x, levels)
  before = _log_weights(mixture, log_bin(means, mixture.log_scales, x[..., None], levels))
  weights, mean, log_scale = (jax.lax.dynamic_index_in_dim(values, channel, axis=-2, keepdims=True)
                              for values in (before, means, mixture.log_scales))
  bins = log_bin(mean, log_scale, jnp.arange(levels)[:, None], levels)
  return jax.nn.logsumexp(jax.nn.log_softmax(weights, axis=-1) + bins, axis=-1)


def sample(key: Key[Array, ""], mixture: LogisticMixture, levels: int,
           temperature: float = 1.0) -> Int[Array, "*shape channels"]:
  """Draw pixels; `temperature` divides the logits and multiplies the scales.

  Towards 0 each draw is the level nearest to the mean, channel after channel, of the component of the largest weight.
  """
  pick_key, noise_key = jax.random.split(key)
  pick = categorical.sample(pick_key, mixture.logits, temperature)[..., None, None]
  means, log_scales, coefficients = (
      jnp.take_along_axis(values, pick, axis=-1)[..., 0] for values in mixture[1:])
  noise = temperature * jnp.exp(log_scales) * jax.random.logistic(noise_key, means.shape, means.dtype)
  channels: list[Array] = []
  for channel in range(means.shape[-1]):
    mean = means[..., channel]
    if coefficients.shape[-1]:
      # The coupling sees levels, as in `log_prob`: not the real numbers that were rounded to them.
      for earlier, value in enumerate(channels):
        mean = mean + coefficients[..., _num_pairs(channel) + earlier] * to_unit(value, levels)
    place = (mean + noise[..., channel] + 1.0) * 0.5 * (levels - 1)
    channels.append(jnp.clip(jnp.round(place), 0, levels - 1).astype(jnp.int32))
  return jnp.stack(channels, axis=-1)


def log_bin(means: Float[Array, "..."], log_scales: Float[Array, "..."], x: Num[Array, "..."],
            levels: int) -> Float[Array, "..."]:
  """Log-probability of level x under one logistic; the arguments broadcast.

  The outermost bins lack the factors of their open side.
  """
  inside, below_upper, above_lower = _bin_parts(means, log_scales, x, levels)
  return jnp.where(x <= 0, below_upper, jnp.where(x >= levels - 1, above_lower, inside))


def log_bin_of_integers(means: Float[Array, "..."], log_scales: Float[Array, "..."], x: Num[Array, "..."],
                        levels: int) -> Float[Array, "..."]:
  """Log-probability of x among all integers, with no tails taken up, under one logistic; the arguments broadcast."""
  return _bin_parts(means, log_scales, x, levels)[0]


def _bin_parts(means: Float[Array, "..."], log_scales: Float[Array, "..."], x: Num[Array, "..."],
               levels: int) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
  """Return the log-probabilities of a bin, and of all up to its upper and from its lower edge on.

  A bin (a, b) in units of the scale has s(b) - s(a) = s(b) s(-a) (1 - e^(a - b)), s the sigmoid: a product, whose
  logarithm needs no difference of nearly equal numbers.
  """
  if not jnp.issubdtype(jnp.result_type(x), jnp.floating):  # levels as floats have gradients
    x = jnp.asarray(x, jnp.int32)  # uint8 would overflow
  # An edge is computed alike as the upper one of a level and the lower one of the next, so that their sum telescopes.
  lower = (2 * x - levels).astype(means.dtype) / (levels - 1)
  upper = (2 * (x + 1) - levels).astype(means.dtype) / (levels - 1)
  inverse = jnp.exp(-log_scales)
  below_upper = jax.nn.log_sigmoid((upper - means) * inverse)
  above_lower = jax.nn.log_sigmoid((means - lower) * inverse)
  inside = below_upper + above_lower + _log1mexp(math.log(2.0 / (levels - 1)) - log_scales)
  return inside, below_upper, above_lower


def to_unit(x: Num[Array, "*shape"], levels: int) -> Float[Array, "*shape"]:
  """Levels as points of [-1, 1]."""
  return (2 * jnp.asarray(x, jnp.int32) - (levels - 1)) / (levels - 1)


def _log1mexp(log_delta: Float[Array, "..."]) -> Float[Array, "..."]:
  """Return log(1 - e^-d) of d = e^log_delta, also where d is too small to tell 1 - e^-d from d."""
  delta = jnp.exp(log_delta)
  small = delta < 0.05
  series = log_delta - 0.5 * delta + jnp.square(delta) / 24.0  # the next term, d^4 / 2880, is beyond float32
  return jnp.where(small, series, jnp.log(-jnp.expm1(-jnp.where(small, 1.0, delta))))


def _moved(mixture: LogisticMixture, x: Num[Array, "*shape channels"],
           levels: int) -> Float[Array, "*shape channels size"]:
  """Return the means of each channel where the channels before it are those of x."""
  if not mixture.coefficients.shape[-2]:
    return mixture.means
  return mixture.means + _couplings(mixture.coefficients, to_unit(x, levels))


def _log_weights(mixture: LogisticMixture,
                 each: Float[Array, "*shape channels size"]) -> Float[Array, "*shape more size"]:
  """Return log p(component, channels before c) for c = 0, 1, ..., channels, of each component's log p(channel)."""
  start = jax.nn.log_softmax(mixture.logits, axis=-1)[..., None, :]
  return jnp.concatenate([start, start + jnp.cumsum(each, axis=-2)], axis=-2)


def _couplings(coefficients: Float[Array, "*shape pairs size"],
               x: Float[Array, "*shape channels"]) -> Float[Array, "*shape channels size"]:
  """Return the part of each channel's mean that the channels before it add."""
  later, earlier = np.tril_indices(x.shape[-1], -1)
  terms = coefficients * x[..., earlier, None]
  return jnp.zeros((*x.shape, terms.shape[-1]), terms.dtype).at[..., later, :].add(terms)


def _num_pairs(channels: int) -> int:
  return channels * (channels - 1) // 2
