"""Diffusion posterior sampling, DPS (Chung et al., arXiv:2209.14687, algorithm 1). The operator need not be linear."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gdm.inverse.problem import Problem
from gdm.inverse.samplers.steps import Draws, ancestral, clipped, predict, rounds, size, start, walk
from gdm.model import Denoiser

_LEAST = 1e-6  # norm of the residual below which its direction means nothing


def dps(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], num: int, *, num_steps: int = 200,
        step_size: float = 0.5) -> Draws:
  """Draw by ancestral steps, each followed by one against the gradient of the SQUARED error of the measurement.

  The step is zeta_i = step_size / |y - A(D(x_t))| (appendix D.1), times the gradient of the squared norm, as in
  algorithm 1; the authors' code takes the gradient of the norm, which is half of that. States are those of a
  variance-preserving path, x / sqrt(alpha^2 + sigma^2), so that one step size means the same on every path.

  Args:
    denoiser: the prior, with gradients.
    problem: the measurements.
    key: of the draws.
    num: draws of each measurement.
    num_steps: steps; the paper takes 1000.
    step_size: zeta', 0.1 to 1 in the paper.
  """
  problem = problem.repeated(num)

  def squared_error(x, t):
    data = predict(denoiser, x, t)
    errors = jnp.sum(jnp.square(problem.residual(data)).reshape(len(x), -1), axis=1)
    return jnp.sum(errors), (errors, data)

  def step(key, x, t, s):
    gradient, (errors, data) = jax.grad(squared_error, has_aux=True)(x, t)
    zeta = step_size / jnp.maximum(jnp.sqrt(errors), _LEAST)
    zeta = zeta.reshape(-1, *(1,) * (x.ndim - 1)) * size(denoiser, t) * size(denoiser, s)
    return ancestral(denoiser, key, x, clipped(denoiser, data), t, s) - zeta * gradient

  first, key = jax.random.split(key)
  x = start(denoiser, first, (len(problem.y), *problem.operator.event))
  return Draws(rounds(walk(denoiser, num_steps, key, x, step), num), {"nfe": (num_steps + 1) * denoiser.cost})
