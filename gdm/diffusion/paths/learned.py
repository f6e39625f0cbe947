"""Paths with parameters: variance-preserving ones whose log-SNR a module gives.

VDM learns the ends by the likelihood bound, which does not depend on what is between them in continuous time, and
what is between them to make the bound's estimate less noisy (arXiv:2107.00630, section 4.2 and appendices H and I).
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.diffusion.paths.path import rate
from gdm.diffusion.paths.variance_preserving import VariancePreserving, require_fall


class LearnedEnds(nn.Module):
  """lambda(t) = start - |range| t, both learned (arXiv:2107.00630, appendix H).

  Attributes:
    log_snr_max: at the data, to start with.
    log_snr_min: at the noise, to start with.
  """

  log_snr_max: float = 13.3
  log_snr_min: float = -5.0

  def setup(self) -> None:
    require_fall(self.log_snr_max, self.log_snr_min)
    self.start = self.param("start", nn.initializers.constant(self.log_snr_max), ())
    self.range = self.param("range", nn.initializers.constant(self.log_snr_max - self.log_snr_min), ())

  def __call__(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return self.start - jnp.abs(self.range) * t


class MonotoneNetwork(nn.Module):
  """lambda(t) between learned ends by a network of positive weights (arXiv:2107.00630, appendix H).

  l_1(t) + l_3(sigmoid(l_2(l_1(t)))), with positive weights by absolute values, is scaled and shifted to go from 0 to 1.

  Attributes:
    width: units of the middle layer.
    log_snr_max, log_snr_min: the ends to start with.
  """

  width: int = 1024
  log_snr_max: float = 13.3
  log_snr_min: float = -5.0

  def setup(self) -> None:
    self.line = LearnedEnds(self.log_snr_max, self.log_snr_min)
    normal, zeros = nn.initializers.normal(1.0), nn.initializers.zeros
    self.weights = [self.param("weight_1", nn.initializers.ones, ()), self.param("weight_2", normal, (self.width,)),
                    self.param("weight_3", normal, (self.width,))]
    self.biases = [self.param("bias_1", zeros, ()), self.param("bias_2", normal, (self.width,))]

  def __call__(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    first, last = self._rising(jnp.zeros((), t.dtype)), self._rising(jnp.ones((), t.dtype))
    return self.line((self._rising(t) - first) / (last - first))

  def _rising(self, t: Array) -> Array:
    one, two, three = (jnp.abs(w) for w in self.weights)
    line = one * t + self.biases[0]
    return line + jnp.mean(three * nn.sigmoid(two * line[..., None] + self.biases[1]), axis=-1)


@functools.partial(jax.tree_util.register_dataclass, data_fields=("params",), meta_fields=("module",))
@dataclasses.dataclass(frozen=True)
class Learned(VariancePreserving):
  """A module's log-SNR with its parameters, as a path: a pytree, to be made inside the functions that use it.

  Attributes:
    module: t to log-SNR, falling from t = 0 to t = 1; `LearnedEnds` or `MonotoneNetwork`.
    params: its own; gradients flow to them.
  """

  module: nn.Module
  params: Any

  @property
  def ends(self) -> tuple[float, float]:
    return (0.0, 1.0)

  def _log_snr(self, t: Array) -> Array:
    out: Any = self.module.apply({"params": self.params}, t)
    return out

  def _time(self, log_snr: Array) -> Array:
    """By bisection, then one step of Newton's, through which the gradient flows."""
    def halve(_, bracket):
      low, high = bracket
      middle = 0.5 * (low + high)
      later = jax.lax.stop_gradient(self._log_snr(middle)) > log_snr
      return jnp.where(later, middle, low), jnp.where(later, high, middle)

    steps = jnp.finfo(log_snr.dtype).nmant
    low, high = jax.lax.fori_loop(0, steps, halve, (jnp.zeros_like(log_snr), jnp.ones_like(log_snr)))
    t = jax.lax.stop_gradient(0.5 * (low + high))
    return t - (self._log_snr(t) - log_snr) / jax.lax.stop_gradient(rate(self._log_snr, t))
