"""DDRM: denoising in the coordinates of the operator's singular vectors (Kawar et al., arXiv:2201.11793)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.inverse.problem import Problem
from gdm.inverse.samplers.steps import Draws, clipped, predict, rounds, walk
from gdm.model import Denoiser


def ddrm(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], num: int, *, num_steps: int = 20, eta: float = 0.85,
         eta_measured: float = 1.0) -> Draws:
  """Draw by steps that take measured coordinates from the measurement as long as it is less noisy than the state.

  Args:
    denoiser: the prior.
    problem: the measurements.
    key: of the draws.
    num: draws of each measurement.
    num_steps: steps; the paper takes 20.
    eta: share of fresh noise.
    eta_measured: eta_b, the share of the measurement in measured coordinates.
  """
  problem = problem.repeated(num)
  apply, measured = problem.spectrum.apply, problem.spectrum.inverse(problem.y)  # V Sigma^+ U^T y
  old = (1.0 - eta**2) ** 0.5

  def level(singular: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Deviation of a measured coordinate's noise, sigma_y / s; of others it is not used."""
    return problem.noise / jnp.where(singular > 0.0, singular, 1.0)

  def step(key, x, t, s):
    # x / alpha has noise of deviation sigma / alpha, as the paper's states have (equations 7 and 8).
    at_t, at_s = (denoiser.sigma(time) / denoiser.alpha(time) for time in (t, s))
    state, data = x / denoiser.alpha(t), clipped(denoiser, predict(denoiser, x, t))

    def of_state(singular):
      return jnp.where(singular > 0.0, 0.0, old * at_s / at_t)

    def of_measured(singular):
      y_level = level(singular)
      less_noisy = jnp.where(at_s >= y_level, eta_measured, old * at_s / jnp.where(y_level > 0.0, y_level, 1.0))
      return jnp.where(singular > 0.0, less_noisy, 0.0)

    def of_noise(singular):
      y_level = level(singular)
      seen = jnp.sqrt(jnp.maximum(at_s**2 - eta_measured**2 * y_level**2, 0.0))
      return jnp.where((singular > 0.0) & (at_s >= y_level), seen, eta * at_s)

    fresh = jax.random.normal(key, x.shape, x.dtype)
    return denoiser.alpha(s) * (data + apply(of_state, state - data) + apply(of_measured, measured - data)
                                + apply(of_noise, fresh))

  # At first measured coordinates are the measurement with noise up to the state's (equation 7).
  end = jnp.asarray(denoiser.ends[1], jnp.float32)
  ratio = denoiser.sigma(end) / denoiser.alpha(end)
  first, key = jax.random.split(key)
  z = jax.random.normal(first, (len(problem.y), *problem.operator.event))
  x = measured + apply(lambda singular: jnp.where(
      singular > 0.0, jnp.sqrt(jnp.maximum(ratio**2 - level(singular)**2, 0.0)), jnp.hypot(1.0, ratio)), z)
  x = problem.kept(walk(denoiser, num_steps, key, denoiser.alpha(end) * x, step))
  return Draws(rounds(x, num), {"nfe": (num_steps + 1) * denoiser.cost})
