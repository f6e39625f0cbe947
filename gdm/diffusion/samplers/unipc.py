"""UniPC: a predictor whose next evaluation corrects the step before, at no further cost (Zhao et al.,
arXiv:2302.04867)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.dpm_solver import MOST_AHEAD
from gdm.diffusion.samplers.sampler import SamplerStep, Stepwise, call, num_steps


class Memory(NamedTuple):
  """The step before.

  Attributes:
    x: the corrected x that it began at.
    t: the time that it began at.
    data: prediction of the data there.
    difference: the prediction before that less `data`, over r, the place of its time in units of the step; 0 at first.
    ratio: r, negative; 0 where there was no step before.
    taken: steps taken.
  """

  x: Array
  t: Array
  data: Array
  difference: Array
  ratio: Array
  taken: Array


class UniPC(Stepwise):
  """UniPC of order 2 with B(h) = exp(h) - 1, in predictions of the data (algorithms 1, 2 and appendix F).

  The first step is of first order and corrected to second; further ones are of second order and corrected to third. A
  step to no noise at all is of first order.
  """

  def nfe(self, path: NoisePath, times: Float[Array, " times"]) -> int:
    return num_steps(times)

  def memory(self, x: Float[Array, "batch *event"]) -> Memory:
    zero = jnp.zeros((), x.dtype)
    return Memory(x, zero + 1.0, jnp.zeros_like(x), jnp.zeros_like(x), zero, jnp.zeros((), jnp.int32))

  def step(self, denoise: Denoise, path: NoisePath, key: Key[Array, ""], x: Float[Array, "batch *event"],
           memory: Memory, now: SamplerStep) -> tuple[Float[Array, "batch *event"], Memory]:
    data = call(denoise, x, now.t)
    last = _half(path, now.t) - _half(path, jnp.where(memory.taken > 0, memory.t, now.t))
    x = jnp.where(memory.taken > 0, self._corrected(path, memory, now.t, last, data, x), x)
    size = _half(path, now.s) - _half(path, now.t)
    usable = (memory.taken > 0) & jnp.isfinite(size)
    ratio = jnp.where(usable, -jnp.maximum(last / jnp.where(usable, size, 1.0), 1.0 / MOST_AHEAD), 0.0)
    difference = jnp.where(usable, (memory.data - data) / jnp.where(usable, ratio, 1.0), 0.0)
    phi = jnp.expm1(-size)
    moved = (path.sigma(now.s) / path.sigma(now.t) * x - path.alpha(now.s) * phi * data
             - path.alpha(now.s) * phi * 0.5 * difference)
    return moved, Memory(x, jnp.asarray(now.t, x.dtype), data, difference, ratio, memory.taken + 1)

  def _corrected(self, path, memory, t, size, data, x):
    """x at t by the step before with the prediction at its end known."""
    h = jnp.where(size > 0.0, size, 1.0)
    start = jnp.where(memory.taken > 0, memory.t, t)
    phi = jnp.expm1(-h)
    # The two conditions of appendix F: rho_1 + rho_2 = b_1, r rho_1 + rho_2 = b_2, with B(h) = phi.
    first = -phi / h - 1.0
    b_1, b_2 = first / phi, 2.0 * (-first / h - 0.5) / phi
    has_two = memory.ratio < 0.0
    r = jnp.where(has_two, memory.ratio, 0.0)
    rho_1 = jnp.where(has_two, (b_2 - b_1) / (r - 1.0), 0.0)
    rho_2 = jnp.where(has_two, b_1 - rho_1, 0.5)
    alpha = path.alpha(t)
    moved = path.sigma(t) / path.sigma(start) * memory.x - alpha * phi * memory.data
    return moved - alpha * phi * (rho_1 * memory.difference + rho_2 * (data - memory.data))


def _half(path: NoisePath, t: Float[Array, ""]) -> Float[Array, ""]:
  return 0.5 * path.log_snr(t)
