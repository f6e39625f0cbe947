"""Pseudoinverse guidance, PiGDM (Song et al., "Pseudoinverse-guided diffusion models for inverse problems", ICLR 2023).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.inverse.problem import Problem
from gdm.inverse.samplers.steps import Draws, clipped, ddim, predict, rounds, spread, start, walk
from gdm.model import Denoiser


def guided(denoiser: Denoiser, problem: Problem, x: Float[Array, "batch *event"],
           t: Float[Array, ""]) -> Float[Array, "batch *event"]:
  """Return the mean of x_0 given x_t and y, with p(x_0 | x_t) approximated by a normal around the prediction.

  p(y | x_t) = N(A D(x_t), r_t^2 A A^T + sigma_y^2 I) (equation 6), whose gradient in x_t adds to the score (equation
  7); by Tweedie's formula it moves the mean by sigma_t^2 / alpha_t times as much. The paper takes another factor by
  trial; this one is Bayes's rule, and makes standard normal data exact.
  """
  data, pull = jax.vjp(lambda x: predict(denoiser, x, t), x)
  variance = spread(denoiser, t)

  def precision(singular):
    # What no example can cause has no part in the gradient.
    return jnp.where(singular > 0.0, 1.0 / (variance * singular**2 + problem.noise**2), 0.0)

  (gradient,) = pull(problem.operator.adjoint(problem.spectrum.left(precision, problem.residual(data))))
  return clipped(denoiser, data + denoiser.sigma(t) ** 2 / denoiser.alpha(t) * gradient)


def pigdm(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], num: int, *, num_steps: int = 100,
          eta: float = 1.0) -> Draws:
  """Draw by DDIM steps whose prediction of the data is guided by the measurement.

  Args:
    denoiser: the prior, with gradients.
    problem: the measurements.
    key: of the draws.
    num: draws of each measurement.
    num_steps: steps; the paper takes 20 or 100.
    eta: share of fresh noise; the paper takes 1.
  """
  problem = problem.repeated(num)

  def step(key, x, t, s):
    return ddim(denoiser, key, x, guided(denoiser, problem, x, t), t, s, eta)

  first, key = jax.random.split(key)
  x = start(denoiser, first, (len(problem.y), *problem.operator.event))
  x = problem.kept(walk(denoiser, num_steps, key, x, step))
  return Draws(rounds(x, num), {"nfe": (num_steps + 1) * denoiser.cost})
