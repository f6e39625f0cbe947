"""Distributions of a pixel's channels, each given those before it, by a network's outputs for the pixel."""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from gdm import checks
from gdm.autoregressive.token_model import token_log_prob
from gdm.distributions import discretized_logistic
from gdm.distributions.discretized_logistic import LogisticMixture

# As in the authors' code. Levels lie in [-1, 1]: a logistic so narrow has 97 % in one bin of 256 levels, and more with
# fewer levels. What lies far from its mean still has a finite log-probability, and gradient, in float32.
MIN_LOG_SCALE = -7.0


class PixelDistribution(abc.ABC):
  """The distribution of a pixel's channels in [0, levels), by outputs of a network."""

  masked_channels: ClassVar[bool]  # whether outputs for a channel must depend on the channels before it

  @abc.abstractmethod
  def num_outputs(self, channels: int, levels: int) -> int:
    """Return how many outputs the network has for each pixel."""

  @abc.abstractmethod
  def log_probs(self, outputs: Float[Array, "*shape outputs"], x: Num[Array, "*shape channels"],
                levels: int) -> Float[Array, "*shape channels"]:
    """Return log p of each channel of x given those before it, in nats; NaN where x is outside [0, levels)."""

  @abc.abstractmethod
  def logits(self, outputs: Float[Array, "*shape outputs"], x: Num[Array, "*shape channels"],
             levels: int) -> Float[Array, "*shape channels levels"]:
    """Return logits of all levels of each channel, given the channels of x before it."""

  @abc.abstractmethod
  def channel_logits(self, outputs: Float[Array, "batch outputs"], x: Int[Array, "batch channels"],
                     channel: Int[Array, ""], levels: int) -> Float[Array, "batch levels"]:
    """Return logits of all levels of one channel; only the channels of x before it matter."""


@dataclasses.dataclass(frozen=True)
class CategoricalPixels(PixelDistribution):
  """One logit for each level of each channel, from a network that masks the channels that come later."""

  masked_channels: ClassVar[bool] = True

  def num_outputs(self, channels, levels):
    return channels * levels

  def log_probs(self, outputs, x, levels):
    return token_log_prob(self.logits(outputs, x, levels), x)

  def logits(self, outputs, x, levels):
    return outputs.reshape(*x.shape, levels)

  def channel_logits(self, outputs, x, channel, levels):
    return jax.lax.dynamic_index_in_dim(self.logits(outputs, x, levels), channel, axis=1, keepdims=False)


@dataclasses.dataclass(frozen=True)
class LogisticPixels(PixelDistribution):
  """A mixture of discretized logistics over whole pixels (Salimans et al., arXiv:1701.05517, sections 2.1 and 2.2).

  Attributes:
    mixture_size: logistics that are mixed.
  """

  mixture_size: int = 10

  masked_channels: ClassVar[bool] = False

  def __post_init__(self) -> None:
    checks.at_least("pixels.mixture_size", self.mixture_size, 1)

  def num_outputs(self, channels, levels):
    return discretized_logistic.num_parameters(channels, self.mixture_size)

  def log_probs(self, outputs, x, levels):
    log_probs = discretized_logistic.chain_log_probs(self.mixture(outputs, x.shape[-1]), x, levels)
    return jnp.where((x >= 0) & (x < levels), log_probs, jnp.nan)

  def logits(self, outputs, x, levels):
    """Return log-probabilities; `log_probs` has no need of all levels, which are many."""
    mixture, channels = self.mixture(outputs, x.shape[-1]), range(x.shape[-1])
    return jnp.stack([discretized_logistic.level_log_probs(mixture, x, channel, levels) for channel in channels], -2)

  def channel_logits(self, outputs, x, channel, levels):
    return discretized_logistic.level_log_probs(self.mixture(outputs, x.shape[-1]), x, channel, levels)

  def mixture(self, outputs: Float[Array, "*shape outputs"], channels: int) -> LogisticMixture:
    """Return each pixel's mixture."""
    mixture = discretized_logistic.from_outputs(outputs, channels)
    return mixture._replace(log_scales=jnp.maximum(mixture.log_scales, MIN_LOG_SCALE))
