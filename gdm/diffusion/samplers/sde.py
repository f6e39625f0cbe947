"""The reverse-time SDE: Euler-Maruyama, and predictor-corrector sampling."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.diffusion.paths.path import Path
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.langevin import langevin, score
from gdm.diffusion.samplers.sampler import Step, Stepwise
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(Stepwise):
  """dx = (f x - g^2 score) dt + g dw, backwards (Song et al., arXiv:2011.13456, equation 6).

  f and g must be finite over the times: a grid for rectified flow or a cosine path ends a little before t = 1.
  """

  def nfe(self, num_steps: int) -> int:
    return num_steps

  def step(self, denoise: Denoise, path: Path, key: Key[Array, ""], x: Float[Array, "batch *event"], memory: tuple,
           now: Step) -> tuple[Float[Array, "batch *event"], tuple]:
    by, diffusion = now.t - now.s, path.diffusion(now.t)
    mean = x - by * (path.drift(now.t) * x - diffusion * score(denoise, path, x, now.t))
    return mean + jnp.sqrt(by * diffusion) * jax.random.normal(key, x.shape, x.dtype), ()


@dataclasses.dataclass(frozen=True)
class PredictorCorrector(Stepwise):
  """A step of any sampler, then Langevin steps at the time it came to (arXiv:2011.13456, algorithms 1 to 5).

  The paper's step size 2 r^2 (|noise| / |score|)^2 takes batch means of both norms; here their expectation where noise
  prevails stands for them, sigma_t^2, so that no example depends on another. The times must end where noise is left.

  Attributes:
    predictor: the sampler; Euler-Maruyama by default.
    num_corrections: Langevin steps after each of its steps.
    signal_to_noise: r.
  """

  predictor: Stepwise = dataclasses.field(default_factory=EulerMaruyama)
  num_corrections: int = 1
  signal_to_noise: float = 0.16

  def __post_init__(self) -> None:
    if self.num_corrections < 1:
      raise ConfigError(f"num_corrections is {self.num_corrections}; it must be at least 1 (else use the predictor).")
    if not self.signal_to_noise > 0.0:
      raise ConfigError(f"signal_to_noise is {self.signal_to_noise}; it must be above 0.")

  def nfe(self, num_steps: int) -> int:
    return self.predictor.nfe(num_steps) + num_steps * self.num_corrections

  def memory(self, x: Float[Array, "batch *event"]) -> Any:
    return self.predictor.memory(x)

  def step(self, denoise: Denoise, path: Path, key: Key[Array, ""], x: Float[Array, "batch *event"], memory: Any,
           now: Step) -> tuple[Float[Array, "batch *event"], Any]:
    predict_key, correct_key = jax.random.split(key)
    x, memory = self.predictor.step(denoise, path, predict_key, x, memory, now)
    # Their x + e score + sqrt(2 e) noise with e = 2 r^2 sigma^2 is a step of size 2 e.
    size = 4.0 * self.signal_to_noise**2
    return langevin(denoise, path, correct_key, x, now.s, size, self.num_corrections), memory
