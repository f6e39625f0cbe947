"""The reverse-time SDE: Euler-Maruyama, and predictor-corrector sampling."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.langevin import langevin, score
from gdm.diffusion.samplers.sampler import Memoryless, SamplerStep, Stepwise, num_steps


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(Memoryless):
  """Exponential Euler-Maruyama for dx = (f x - g^2 score) dt + g dw backwards (arXiv:2011.13456, equation 6).

  In y = x / hypot(alpha, sigma), whose path a = alpha / hypot(alpha, sigma), b = sigma / hypot(alpha, sigma) preserves
  variance, the score of standard normal data is -y. That part of the drift and the noise are integrated exactly over a
  step, with r = a_t / a_s; only the rest of the score is frozen, as by Euler-Maruyama:

    y_s = r y_t + 2 (1 - r) (score + y_t) + sqrt(1 - r^2) noise.

  To first order in the step this is Euler-Maruyama, and with r = sqrt(1 - beta) nearly the paper's reverse diffusion
  sampler (appendix E). It needs neither f nor g, which are infinite at some paths' ends, and a step multiplies an error
  by a number in [0, 1) for data of any variance up to one: it is stable in any number of steps.
  """

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times)

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"], memory: tuple,
           now: SamplerStep) -> tuple[Float[Array, "batch *event"], tuple]:
    before, after = (jnp.hypot(path.alpha(t), path.sigma(t)) for t in (now.t, now.s))
    # log r, and 1 - r and 1 - r^2 from it without cancellation: log a = -log(1 + 1 / snr) / 2.
    log_ratio = 0.5 * (jax.nn.softplus(-path.log_snr(now.s)) - jax.nn.softplus(-path.log_snr(now.t)))
    y, rest = x / before, x / before + before * score(denoise, path, x, now.t)
    mean = jnp.exp(log_ratio) * y - 2.0 * jnp.expm1(log_ratio) * rest
    noise = jnp.sqrt(-jnp.expm1(2.0 * log_ratio)) * jax.random.normal(key, x.shape, x.dtype)
    return after * (mean + noise), ()


@dataclasses.dataclass(frozen=True)
class PredictorCorrector(Stepwise):
  """A step of any sampler, then Langevin steps at the time it came to (arXiv:2011.13456, algorithms 1 to 5).

  The paper's step size 2 r^2 (|noise| / |score|)^2 takes batch means of both norms; here their expectation where noise
  prevails stands for them, sigma_t^2, so that no example depends on another.

  Attributes:
    predictor: the sampler; Euler-Maruyama by default.
    num_corrections: Langevin steps after each of its steps.
    signal_to_noise: r.
  """

  predictor: Stepwise = dataclasses.field(default_factory=EulerMaruyama)
  num_corrections: int = 1
  signal_to_noise: float = 0.16

  def __post_init__(self) -> None:
    checks.at_least("num_corrections", self.num_corrections, 1, "(else use the predictor)")
    checks.positive("signal_to_noise", self.signal_to_noise)

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int | Array:
    return self.predictor.nfe(path, times) + num_steps(times) * self.num_corrections

  def memory(self, x: Float[Array, "batch *event"]) -> Any:
    return self.predictor.memory(x)

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"], memory: Any,
           now: SamplerStep) -> tuple[Float[Array, "batch *event"], Any]:
    predict_key, correct_key = jax.random.split(key)
    x, memory = self.predictor.step(denoise, path, predict_key, x, memory, now)
    # Their x + e score + sqrt(2 e) noise with e = 2 r^2 sigma^2 is a step of size 2 e.
    size = 4.0 * self.signal_to_noise**2
    return langevin(denoise, path, correct_key, x, now.s, size, self.num_corrections), memory
