"""Langevin steps at fixed noise levels: annealed Langevin dynamics, and the corrector of predictor-corrector."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.sampler import Memoryless, SamplerStep, call, num_steps


def score(denoise: Denoise, path: NoisePath, x: Float[Array, "batch *event"],
          t: Float[Array, ""]) -> Float[Array, "batch *event"]:
  """Return the gradient of log p_t that a denoised x implies: (alpha x_0 - x) / sigma^2."""
  return (path.alpha(t) * call(denoise, x, t) - x) / path.sigma(t) ** 2


def langevin(denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"],
             t: Float[Array, ""], size: float, num: int) -> Float[Array, "batch *event"]:
  """`num` steps x + (a / 2) score + sqrt(a) noise with a = size sigma_t^2, which leave p_t nearly as it is.

  Where there is no noise, x stays as it is: steps have no length, and a network need not be finite.
  """
  sigma = path.sigma(t)

  def body(i, x):
    noise = jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
    pull = path.alpha(t) * call(denoise, x, t) - x  # sigma^2 score
    return jnp.where(sigma > 0.0, x + 0.5 * size * pull + jnp.sqrt(size) * sigma * noise, x)

  return jax.lax.fori_loop(0, num, body, x)


@dataclasses.dataclass(frozen=True)
class AnnealedLangevin(Memoryless):
  """Song & Ermon (arXiv:1907.05600), algorithm 1: some Langevin steps at each time but the first, where x is noise.

  The first evaluation of each level takes x there along the predicted noise, as in consistent annealed sampling
  (Jolicoeur-Martineau et al., arXiv:2009.05475, section 3); the others are Langevin steps. The published algorithm
  leaves x as it is between levels, and its Langevin steps remove the noise of the level before only where levels are
  close: 5 steps at each of 10 levels from 20 to 0.01 leave 4 times the deviation of the data.

  Attributes:
    steps_per_level: T, evaluations at each level.
    size: of a step, over sigma^2: epsilon / sigma_L^2, 0.2 in the paper.
  """

  steps_per_level: int = 100
  size: float = 0.2

  def __post_init__(self) -> None:
    checks.at_least("steps_per_level", self.steps_per_level, 1)
    checks.positive("size of a Langevin step", self.size)

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times) * self.steps_per_level

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"], memory: tuple,
           now: SamplerStep) -> tuple[Float[Array, "batch *event"], tuple]:
    x, _ = DDIM().step(denoise, path, key, x, (), now)
    return langevin(denoise, path, key, x, now.s, self.size, self.steps_per_level - 1), ()
