"""RePaint: replacement whose steps are taken several times, noised again in between (Lugmayr et al., arXiv:2201.09865,
algorithm 1). It needs measurements without noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gdm.inverse.problem import Problem
from gdm.inverse.samplers.projection import toward_measurement
from gdm.inverse.samplers.steps import Draws, ancestral, clipped, predict, rounds, start, walk
from gdm.model import Denoiser


def repaint(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], num: int, *, num_steps: int = 50,
            num_resamples: int = 5) -> Draws:
  """Draw by steps that are each taken several times, so that what is not measured comes to agree with the measurement.

  Args:
    denoiser: the prior.
    problem: the measurements.
    key: of the draws.
    num: draws of each measurement.
    num_steps: steps.
    num_resamples: how often each is taken; the paper takes 10 with 250 steps.
  """
  problem = problem.repeated(num)

  def step(key, x, t, s):
    scale = denoiser.alpha(t) / denoiser.alpha(s)
    deviation = denoiser.sigma(t) * jnp.sqrt(-jnp.expm1(denoiser.log_snr(t) - denoiser.log_snr(s)))

    def once(index, state):
      x, _ = state
      keys = jax.random.split(jax.random.fold_in(key, index), 3)
      x = ancestral(denoiser, keys[0], x, clipped(denoiser, predict(denoiser, x, t)), t, s)
      x = toward_measurement(denoiser, problem, keys[1], x, s, 1.0)  # lines 4 to 8
      return scale * x + deviation * jax.random.normal(keys[2], x.shape, x.dtype), x  # line 10

    return jax.lax.fori_loop(0, num_resamples, once, (x, x))[1]

  first, key = jax.random.split(key)
  x = start(denoiser, first, (len(problem.y), *problem.operator.event))
  x = problem.kept(walk(denoiser, num_steps, key, x, step))
  return Draws(rounds(x, num), {"nfe": (num_steps * num_resamples + 1) * denoiser.cost})
