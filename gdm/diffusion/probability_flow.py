"""The probability-flow ODE and the likelihood by it (Song et al., arXiv:2011.13456, section 4.3 and appendix D).

dx/dt = alpha' x_0 + sigma' noise, both as predicted at (x, t), has the same marginals as the path's SDE. Along it log p
changes by minus the divergence.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from gdm.diffusion.paths.path import NoisePath, prior_scale
from gdm.diffusion.predictions import PREDICTIONS, Denoise
from gdm.inference.divergence import ExactTrace, JacobianTrace, divergence
from gdm.inference.ode import Tolerance, solve

VelocityField = Callable[[Float[Array, "batch *event"], Float[Array, " batch"]], Float[Array, "batch *event"]]


class ODELikelihood(NamedTuple):
  """Log-densities in nats by the ODE, the latents where it ends, and what it took."""

  log_prob: Float[Array, " batch"]
  latent: Float[Array, "batch *event"]
  nfe: Int[Array, ""]
  solved: Bool[Array, ""]


def velocity(denoise: Denoise, path: NoisePath) -> VelocityField:
  """Return the velocity of the ODE; t is above 0, where the noise of a denoised x is unknown."""
  def field(x, t):
    level = path.level(t).like(x)
    data = denoise(x, t)
    return PREDICTIONS["velocity"].target(level, data, PREDICTIONS["data"].noise(level, x, data))

  return field


def log_likelihood(denoise: Denoise, path: NoisePath, data: Float[Array, "batch *event"], key: Key[Array, ""],
                   trace: JacobianTrace | None = None, tolerance: Tolerance | None = None) -> ODELikelihood:
  """Log-density of `data`, taken to be x at the path's first time, by the ODE to its last.

  Pure, so under `jax.jit` an unsolved ODE cannot raise: its log-densities are NaN; `require_solved` raises.

  Args:
    denoise: predicts the data.
    path: noise path.
    data: real numbers.
    key: of the probes.
    trace: how the divergence is found; exact by default, which takes as many derivatives as dimensions.
    tolerance: of the solver.
  """
  probes = (trace or ExactTrace()).probes(key, data.shape)
  field = velocity(denoise, path)

  def function(t, state):
    times = jnp.full(data.shape[0], t)
    return divergence(lambda x: field(x, times), state[0], probes)

  start, end = (jnp.asarray(end, data.dtype) for end in path.ends)
  (latent, change), nfe, solved = solve(function, (data, jnp.zeros(data.shape[0], data.dtype)), start, end,
                                        tolerance or Tolerance())
  scale = prior_scale(path).astype(data.dtype)
  prior = jax.scipy.stats.norm.logpdf(latent, scale=scale).reshape(data.shape[0], -1).sum(axis=-1)
  return ODELikelihood(prior + change, latent, nfe, solved)
