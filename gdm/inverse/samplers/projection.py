"""Projection of the noised state on the noised measurement, before each step (Song et al., arXiv:2111.08005)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.inverse.problem import Problem
from gdm.inverse.samplers.steps import Draws, ancestral, clipped, predict, rounds, start, walk
from gdm.model import Denoiser


def toward_measurement(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], x: Float[Array, "batch *event"],
                       t: Float[Array, ""], strength: float) -> Float[Array, "batch *event"]:
  """Return x at time t moved by a share of the way to the nearest x whose measurement is that of noised data.

  The measurement of x_t = alpha x_0 + sigma z is alpha y + sigma A z (equation 8); equation 10 moves x to it, which of
  any linear operator is by the pseudo-inverse.
  """
  z = jax.random.normal(key, x.shape, x.dtype)
  noised = denoiser.alpha(t) * problem.y + denoiser.sigma(t) * problem.operator.forward(z)
  return x + strength * problem.spectrum.inverse(noised - problem.operator.forward(x))


def projection(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], num: int, *, num_steps: int = 200,
               strength: float = 1.0) -> Draws:
  """Draw by ancestral steps, each from a state that was moved toward the noised measurement.

  Args:
    denoiser: the prior.
    problem: the measurements.
    key: of the draws.
    num: draws of each measurement.
    num_steps: steps.
    strength: lambda, 0 to 1; 1 keeps the measurement, below 1 trusts it less, as the paper does where it has noise.
  """
  problem = problem.repeated(num)

  def step(key, x, t, s):
    own, key = jax.random.split(key)
    x = toward_measurement(denoiser, problem, own, x, t, strength)
    return ancestral(denoiser, key, x, clipped(denoiser, predict(denoiser, x, t)), t, s)

  first, key = jax.random.split(key)
  x = start(denoiser, first, (len(problem.y), *problem.operator.event))
  x = walk(denoiser, num_steps, key, x, step)
  return Draws(rounds(jnp.where(strength == 1.0, problem.kept(x), x), num), {"nfe": (num_steps + 1) * denoiser.cost})
