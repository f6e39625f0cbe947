"""Improved DDPM: a cosine schedule and learned variances (Nichol & Dhariwal, arXiv:2102.09672)."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.diffusion import bound
from gdm.diffusion.discrete_time import DiscreteTime
from gdm.diffusion.likelihoods import total
from gdm.diffusion.paths.discrete import discretize
from gdm.diffusion.paths.path import Path, PathSample, expand, noised
from gdm.diffusion.paths.variance_preserving import Cosine, PiecewiseBeta
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.ancestral import LearnedAncestral, log_variance, posterior
from gdm.diffusion.samplers.grids import Uniform
from gdm.diffusion.samplers.named import SAMPLERS, Choice
from gdm.errors import ConfigError
from gdm.model import Params


@dataclasses.dataclass(frozen=True)
class ImprovedDDPM(DiscreteTime):
  """The network predicts the noise and, between its two extremes, the log-variance of each step.

  The loss is the simple one plus `vlb_weight` T times the bound's term, which moves the variances alone (section 3.1);
  both are means over dimensions, and the term is in bits, as in the paper's code. At t = 1 / T the term is L_0, the
  decoder's -log p(data | x), where the decoder is the discretized normal; else there is none.

  Attributes:
    offset: of the cosine schedule.
    vlb_weight: lambda, for a bound in bits/dim.
  """

  offset: float = 0.008
  vlb_weight: float = 1e-3

  def __post_init__(self) -> None:
    if self.vlb_weight < 0.0:
      raise ConfigError(f"vlb_weight is {self.vlb_weight}; it must be at least 0.")
    super().__post_init__()

  @property
  def whole_path(self) -> PiecewiseBeta:
    return _discrete_cosine(self.num_noise_steps, self.offset)

  @property
  def outputs(self) -> int:
    return 2

  @property
  def samplers(self) -> Mapping[str, Choice]:
    return {**SAMPLERS, "ancestral": Choice(LearnedAncestral(), Uniform())}

  def predict_both(self, params: Params, path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
                   context: Float[Array, "batch width"] | None = None, key: Key[Array, ""] | None = None
                   ) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    """The noise, and v in equation 15: 0 at the posterior's log-variance, 1 at the forward one; 1/2 at first."""
    noise, v = jnp.split(self.raw(params, path, x, t, context, key), 2, axis=-1)
    return noise, 0.5 * (v + 1.0)

  def predict(self, params: Params, path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
              context: Float[Array, "batch width"] | None = None,
              key: Key[Array, ""] | None = None) -> Float[Array, "batch *event"]:
    return self.predict_both(params, path, x, t, context, key)[0]

  def denoiser(self, params: Params, path: Path, context: Float[Array, "batch width"] | None = None) -> Denoise:
    return _Denoiser(self, params, path, context)

  def errors(self, params: Params, path: Path, sample: PathSample, context: Array | None,
             key: Key[Array, ""]) -> Float[Array, " batch"]:
    noise, v = self.predict_both(params, path, sample.x, sample.t, context, key)
    simple = jnp.mean((noise - sample.noise).reshape(len(noise), -1) ** 2, axis=-1)
    vlb = self._bound_term(path, sample, jax.lax.stop_gradient(noise), v) / (self.spec.num_dims * math.log(2.0))
    return simple + self.vlb_weight * self.num_noise_steps * vlb

  def _bound_term(self, path: Path, sample: PathSample, noise: Array, v: Array) -> Float[Array, " batch"]:
    """The bound's term at the times of a sample, i / T, in nats of an example (equations 4 to 6)."""
    unit = 1.0 / self.num_noise_steps
    is_first = sample.t < 1.5 * unit
    # Each of the two terms is computed at all times, and where it does not apply, in a place where it is finite.
    t = jnp.where(is_first, 2.0 * unit, sample.t)
    data = self.prediction.data(sample.level.like(sample.x), sample.x, noise)
    inner = self._divergence(path, t - unit, t, sample.data, data, v)
    if not self.predicts_levels:
      return jnp.where(is_first, 0.0, inner)
    mean = sample.data + expand(is_first.astype(data.dtype), data) * (data - sample.data)
    decoded = bound.discretized_gaussian_loss(mean, self._last_log_variance(path, v), self.served({}, sample.data),
                                              self.spec.require_discrete("a decoder"))
    return jnp.where(is_first, decoded, inner)

  def last_step(self, params: Params, path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
                context: Float[Array, "batch width"] | None
                ) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    denoise: Any = self.clipped(params, path, context)
    mean, v = denoise.with_variance(x, t)
    return mean, self._last_log_variance(path, v)

  def _last_log_variance(self, path: Path, v: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """The log-variance of the step from 1 / T: equation 15, whose posterior variance, 0, is the next step's instead.

    So it is in the paper's code.
    """
    first, second = (jnp.asarray(i / self.num_noise_steps, v.dtype) for i in (1, 2))
    return log_variance(posterior(path, first, second)._replace(forward_variance=path.sigma(first) ** 2), v)

  def step_loss(self, params: Params, path: Path, s: Float[Array, " batch"], t: Float[Array, " batch"],
                data: Float[Array, "batch *event"], noise: Float[Array, "batch *event"],
                context: Float[Array, "batch width"] | None) -> Float[Array, " batch"]:
    denoise: Any = self.clipped(params, path, context)
    return self._divergence(path, s, t, data, *denoise.with_variance(noised(path, data, noise, t).x, t))

  def _divergence(self, path: Path, s: Array, t: Array, data: Array, predicted: Array, v: Array) -> Array:
    """KL between the posterior of a step from t to s and the model's normal, in nats of an example (equation 4)."""
    q = jax.tree.map(lambda a: expand(a, data), posterior(path, s, t))
    log_p = log_variance(q, v)
    log_q = jnp.log(q.variance)
    mean = q.of_data * (predicted - data)
    return 0.5 * total(log_p - log_q + jnp.exp(log_q - log_p) + mean**2 * jnp.exp(-log_p) - 1.0)


@functools.cache
def _discrete_cosine(num_steps: int, offset: float) -> PiecewiseBeta:
  """Equation 17, its betas at most 0.999."""
  with jax.ensure_compile_time_eval():
    return PiecewiseBeta(tuple(np.asarray(discretize(Cosine(offset), num_steps).betas).tolist()))


@dataclasses.dataclass(frozen=True, eq=False)
class _Denoiser:
  """The prediction of the data, and where a step's log-variance lies (gdm/diffusion/samplers/ancestral.py)."""

  model: ImprovedDDPM
  params: Params
  path: Path
  context: Array | None

  def __call__(self, x, t):
    return self.with_variance(x, t)[0]

  def with_variance(self, x, t):
    noise, v = self.model.predict_both(self.params, self.path, x, t, self.context)
    return self.model.prediction.data(self.path.level(t).like(x), x, noise), v
