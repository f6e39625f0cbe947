"""Ancestral sampling: the posterior q(x_s | x_t, x_0) with the predicted x_0 in place of the true one.

Its mean is (scale sigma_s^2 x_t + alpha_s (transition variance) x_0) / sigma_t^2 (Ho et al., arXiv:2006.11239,
equation 7; of any path Kingma et al., arXiv:2107.00630, equation 32).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.diffusion.paths.path import NoisePath, transition
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.sampler import Memoryless, SamplerStep, call, num_steps


class StepPosterior(NamedTuple):
  """q(x_s | x_t, x_0) of a step: mean = of_x x_t + of_data x_0; its variance, and the step's in the other direction."""

  of_x: Float[Array, "*shape"]
  of_data: Float[Array, "*shape"]
  variance: Float[Array, "*shape"]
  forward_variance: Float[Array, "*shape"]


def posterior(path: NoisePath, s: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> StepPosterior:
  """Return the posterior of x at s < t, given x at t and at 0."""
  step = transition(path, s, t)
  ratio = (path.sigma(s) / path.sigma(t)) ** 2
  # The share of the data is the transition's variance over sigma_t^2, which does not cancel in this form.
  share = -jnp.expm1(path.log_snr(t) - path.log_snr(s))
  return StepPosterior(step.scale * ratio, path.alpha(s) * share, path.sigma(s) ** 2 * share, step.variance)


# The variance of each step, of the posterior: arXiv:2006.11239, section 3.2.
VARIANCES: dict[str, Callable[[StepPosterior], Array]] = {"posterior": lambda p: p.variance,
                                                          "forward": lambda p: p.forward_variance}


@dataclasses.dataclass(frozen=True)
class Ancestral(Memoryless):
  """DDPM's sampler. The last step adds no noise.

  Attributes:
    variance: of each step: "posterior" (right if the data were one point) or "forward" (right if it were normal).
  """

  variance: str = "posterior"

  def __post_init__(self) -> None:
    checks.one_of("variance", self.variance, VARIANCES)

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times)

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"], memory: tuple,
           now: SamplerStep) -> tuple[Float[Array, "batch *event"], tuple]:
    q = posterior(path, now.s, now.t)
    mean = q.of_x * x + q.of_data * call(denoise, x, now.t)
    return _noisy(key, mean, jnp.sqrt(VARIANCES[self.variance](q)), now), ()


@runtime_checkable
class DenoiseWithVariance(Protocol):
  """A denoising function that also gives, for each entry, where the step's log-variance lies."""

  def __call__(self, x: Float[Array, "batch *event"], t: Float[Array, " batch"]) -> Float[Array, "batch *event"]: ...

  def with_variance(self, x: Float[Array, "batch *event"],
                    t: Float[Array, " batch"]) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    """x_0, and 0 where the log-variance is the posterior's to 1 where it is the forward one."""
    ...


@dataclasses.dataclass(frozen=True)
class LearnedAncestral(Memoryless):
  """Improved DDPM's sampler (Nichol & Dhariwal, arXiv:2102.09672, equation 15).

  Its denoising function is a `DenoiseWithVariance` and gives v too: a step's log-variance is
  v log(forward) + (1 - v) log(posterior). The last step adds no noise.
  """

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times)

  def step(self, denoise: Any, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"],
           memory: tuple, now: SamplerStep) -> tuple[Float[Array, "batch *event"], tuple]:
    q = posterior(path, now.s, now.t)
    data, fraction = denoise.with_variance(x, jnp.broadcast_to(now.t, x.shape[:1]).astype(x.dtype))
    return _noisy(key, q.of_x * x + q.of_data * data, jnp.exp(0.5 * log_variance(q, fraction)), now), ()


def log_variance(q: StepPosterior, fraction: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return the log-variance between the posterior's and the forward one, each above 0 but at the last step."""
  low = jnp.log(jnp.maximum(q.variance, jnp.finfo(fraction.dtype).tiny))
  return fraction * jnp.log(q.forward_variance) + (1.0 - fraction) * low


def _noisy(key, mean, std, now: SamplerStep):
  return mean + jnp.where(now.is_last, 0.0, std) * jax.random.normal(key, mean.shape, mean.dtype)
