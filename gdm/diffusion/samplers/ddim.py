"""DDIM: to the next time along the predicted noise, with any share of fresh noise."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.ancestral import posterior
from gdm.diffusion.samplers.sampler import Memoryless, SamplerStep, call, num_steps
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DDIM(Memoryless):
  """Song et al. (arXiv:2010.02502), equations 12 and 16, of any path.

  With eta = 0 it is Euler's method for the probability-flow ODE in x / alpha against sigma / alpha (section 4.3); with
  eta = 1 ancestral sampling.

  Attributes:
    eta: standard deviation of the fresh noise over the posterior's, 0 to 1.
  """

  eta: float = 0.0

  def __post_init__(self) -> None:
    if not 0.0 <= self.eta <= 1.0:
      raise ConfigError(f"eta is {self.eta}; it must be 0 (the ODE) to 1 (ancestral sampling).")

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times)

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"], memory: tuple,
           now: SamplerStep) -> tuple[Float[Array, "batch *event"], tuple]:
    data = call(denoise, x, now.t)
    noise = (x - path.alpha(now.t) * data) / path.sigma(now.t)
    if self.eta == 0.0:
      return path.alpha(now.s) * data + path.sigma(now.s) * noise, ()
    fresh = self.eta**2 * posterior(path, now.s, now.t).variance
    remaining = jnp.sqrt(jnp.maximum(path.sigma(now.s) ** 2 - fresh, 0.0))
    mean = path.alpha(now.s) * data + remaining * noise
    return mean + jnp.sqrt(fresh) * jax.random.normal(key, x.shape, x.dtype), ()
