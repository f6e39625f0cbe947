"""Heun's method for the probability-flow ODE, second order, with optional churn (EDM)."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.diffusion.paths.path import Level, NoisePath
from gdm.diffusion.predictions import PREDICTIONS, Denoise
from gdm.diffusion.samplers.sampler import Memoryless, SamplerStep, call, num_steps


class Clock(NamedTuple):
  """The variable a path's ODE is solved in: dy / dc = slope, of y = x / scale and c.

  Attributes:
    value: c of a level and its time.
    scale: what x is divided by.
    slope: dy / dc of a level, data and noise.
  """

  value: Callable[[Level, Array], Array]
  scale: Callable[[Level], Array]
  slope: Callable[[Level, Array, Array], Array]


def _hypot(level: Level) -> Array:
  return jnp.hypot(level.alpha, level.sigma)


def _size(noise: Float[Array, "batch *event"]) -> Float[Array, "batch *ones"]:
  """Return the root mean square of each example."""
  return jnp.sqrt(jnp.mean(noise**2, axis=tuple(range(1, noise.ndim)), keepdims=True))


MOST_NOISE = 4.0  # root mean square of an example's noise; of normal numbers one number alone comes near

CLOCKS: dict[str, Clock] = {
    "sigma": Clock(lambda level, t: level.sigma / level.alpha, lambda level: level.alpha, PREDICTIONS["noise"].target),
    "angle": Clock(lambda level, t: jnp.arctan2(level.sigma, level.alpha), _hypot,
                   lambda level, data, noise: PREDICTIONS["v"].target(level, data, noise) / _hypot(level)),
    "time": Clock(lambda level, t: t, lambda level: jnp.ones_like(level.alpha), PREDICTIONS["velocity"].target)}


@dataclasses.dataclass(frozen=True)
class Heun(Memoryless):
  """Karras et al. (arXiv:2206.00364), algorithms 1 (no churn) and 2.

  A step to no noise at all is Euler's, since the slope there is unknown; all others are corrected, the last one too.
  After a step that is too long the state is off the path, and the noise in it, (x - alpha x_0) / sigma, grows with
  1 / sigma where it should be normal. The correction takes it for no larger than `MOST_NOISE`, or than it was before
  the step, so that few steps do not explode.

  Attributes:
    clock: the ODE's variable: "sigma" (x / alpha against sigma / alpha, as in EDM; alpha must not be 0), "angle"
      (x / hypot(alpha, sigma) against arctan(sigma / alpha)) or "time" (straight lines of a rectified flow; with EDM's
      path the same as "sigma"). Where steps are large, "sigma" leaves half of a step's noise, however much that is: in
      5 steps of EDM's path 2.7 times the deviation of the data; "angle" does not move standard normal data at all, and
      is more accurate in any number of steps up to at least 18.
    churn: S_churn: noise put back before each step, spread over all steps.
    churn_min, churn_max: S_tmin and S_tmax: the sigma / alpha between which it is.
    churn_noise: S_noise: its standard deviation.
  """

  clock: str = "sigma"
  churn: float = 0.0
  churn_min: float = 0.0
  churn_max: float = math.inf
  churn_noise: float = 1.0

  def __post_init__(self) -> None:
    checks.one_of("clock", self.clock, CLOCKS)
    checks.at_least("churn", self.churn, 0.0, "(0 for none)")

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int | Array:
    return 2 * num_steps(times) - (path.sigma(times[-1]) == 0.0)

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"], memory: tuple,
           now: SamplerStep) -> tuple[Float[Array, "batch *event"], tuple]:
    x, t = self._churned(path, key, x, now)
    clock = CLOCKS[self.clock]
    before, after = path.level(t), path.level(now.s)
    by = clock.value(after, now.s) - clock.value(before, t)
    data, noise = self._parts(denoise, before, x, t)
    y, slope = x / clock.scale(before), clock.slope(before, data, noise)
    euler = clock.scale(after) * (y + by * slope)

    def corrected(euler):
      data, seen = self._parts(denoise, after, euler, now.s)
      largest = jnp.maximum(_size(noise), MOST_NOISE)
      seen = seen * (largest / jnp.maximum(_size(seen), largest))
      return clock.scale(after) * (y + 0.5 * by * (slope + clock.slope(after, data, seen)))

    # A condition and not a select: the network must not be evaluated at no noise.
    return jax.lax.cond(after.sigma > 0.0, corrected, lambda euler: euler, euler), ()

  def _parts(self, denoise, level, x, t):
    data = call(denoise, x, t)
    return data, PREDICTIONS["data"].noise(level, x, data)

  def _churned(self, path, key, x, now: SamplerStep):
    """x at a time before now.t, with more noise; never before the path's last time."""
    if self.churn == 0.0:
      return x, now.t
    sigma = path.sigma(now.t) / path.alpha(now.t)
    grows = (sigma >= self.churn_min) & (sigma <= self.churn_max)
    gamma = jnp.where(grows, jnp.minimum(self.churn / now.num, math.sqrt(2.0) - 1.0), 0.0)
    last = jnp.asarray(path.ends[1], x.dtype)
    most = path.sigma(last) / path.alpha(last)
    more = jnp.maximum(jnp.minimum(sigma * (1.0 + gamma), most), sigma)
    t = jnp.where(more > sigma, path.time(-2.0 * jnp.log(more)), now.t)
    noise = self.churn_noise * jax.random.normal(key, x.shape, x.dtype)
    added = jnp.sqrt(jnp.maximum(more**2 - sigma**2, 0.0)) * noise
    return path.alpha(t) * (x / path.alpha(now.t) + added), t
