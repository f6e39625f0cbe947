"""Twisted particles: sequential Monte Carlo whose particles look ahead by the denoiser and its gradient (Wu et al.,
arXiv:2306.17775, algorithm 1). It needs measurements with noise.

The potential of a state is G_t(x) = N(y; A D(x), r_t^2 A A^T + sigma_y^2 I), which knows more of y than that of
gdm/inverse/samplers/particles.py; at the data both are p(y | x_0). Fewer particles are lost where r_t^2 is about the
variance of x_0 given x_t, as on normal priors; on digits more are (docs/results/inverse.md). The price is a gradient in
each step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.inference import sequential_monte_carlo as smc
from gdm.inverse.problem import Problem
from gdm.inverse.samplers.particles import Observed, choose, log_density
from gdm.inverse.samplers.steps import Draws, clipped, predict, reverse, spread, start, times
from gdm.model import Denoiser


class LookAhead(NamedTuple):
  """What a particle knows at its state.

  Attributes:
    x: the state.
    data: the prediction of the data.
    log_potential: log G_t, in nats, up to a constant of y.
    gradient: its gradient in x.
  """

  x: Float[Array, "rows *event"]
  data: Float[Array, "rows *event"]
  log_potential: Float[Array, " rows"]
  gradient: Float[Array, "rows *event"]


def look(denoiser: Denoiser, problem: Problem, x: Float[Array, "rows *event"], t: Float[Array, ""]) -> LookAhead:
  """Return the prediction at x, the log-potential and its gradient."""
  seen = Observed(jnp.ones(()), jnp.zeros(()), spread(denoiser, t))

  def log_potential(x):
    data = predict(denoiser, x, t)
    logs = log_density(problem, seen, data)
    return jnp.sum(logs), (logs, data)

  gradient, (logs, data) = jax.grad(log_potential, has_aux=True)(x)
  return LookAhead(x, data, logs, gradient)


def twisted(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], num: int, *, num_steps: int = 100,
            num_particles: int = 64) -> Draws:
  """Draw by particles that look ahead, for each measurement its own. Info as of `particles`.

  Args:
    denoiser: the prior, with gradients; rows of a call are particles x measurements.
    problem: the measurements, with noise.
    key: of the draws.
    num: draws of each measurement, from its particles by their weights.
    num_steps: steps.
    num_particles: particles of each measurement.
  """
  batch = len(problem.y)
  problem, grid = problem.repeated(num_particles), times(denoiser, num_steps)

  def islands(values: Array) -> Array:  # [particles * batch, ...] -> [batch, particles, ...]
    return jnp.swapaxes(values.reshape(num_particles, batch, *values.shape[1:]), 0, 1)

  def rows(values: Array) -> Array:
    return jnp.swapaxes(values, 0, 1).reshape(num_particles * batch, *values.shape[2:])

  def reweighted(key, log_weights, gains, found):
    """Add log-weights; resample the islands whose weights have grown uneven."""
    log_weights = log_weights + islands(gains)
    evidence, weights = jax.nn.logsumexp(log_weights, axis=1), smc.normalized(log_weights)
    share = smc.effective_share(weights)
    uneven = (share < smc.LEAST_SHARE)[:, None]
    taken = jnp.where(uneven, smc.resampled(key, weights), jnp.arange(num_particles))
    found = LookAhead(*(rows(jax.vmap(lambda own, taken: own[taken])(islands(each), taken)) for each in found))
    return jnp.where(uneven, -jnp.log(num_particles), jnp.log(weights)), found, share, evidence

  def step(state, now):
    found, log_weights = state
    index, t, s = now
    resample_key, move_key = jax.random.split(jax.random.fold_in(key, index))
    q, x = reverse(denoiser, t, s), found.x
    plain = q.of_x * x + q.of_data * clipped(denoiser, found.data)
    # The mean of x_0 given y too, by Tweedie's formula, as in gdm/inverse/samplers/pigdm.py.
    guided = clipped(denoiser, found.data + denoiser.sigma(t) ** 2 / denoiser.alpha(t) * found.gradient)
    mean = q.of_x * x + q.of_data * guided
    z = jax.random.normal(move_key, x.shape, x.dtype)
    moved = mean + jnp.sqrt(q.variance) * z
    # log p(x_s | x_t) - log q(x_s | x_t, y) + log G_s - log G_t (equation 12).
    ratio = jnp.square(moved - mean) - jnp.square(moved - plain)
    ratio = 0.5 * jnp.sum(ratio.reshape(len(x), -1), axis=1) / q.variance
    ahead = look(denoiser, problem, moved, s)
    gains = ratio + ahead.log_potential - found.log_potential
    log_weights, ahead, share, evidence = reweighted(resample_key, log_weights, gains, ahead)
    return (ahead, log_weights), (share, evidence)

  start_key, first_key, draw_key, key = jax.random.split(key, 4)
  found = look(denoiser, problem, start(denoiser, start_key, (num_particles * batch, *problem.operator.event)), grid[0])
  log_weights = jnp.full((batch, num_particles), -jnp.log(num_particles))
  log_weights, found, first, at_first = reweighted(first_key, log_weights, found.log_potential, found)
  (found, log_weights), (shares, evidence) = jax.lax.scan(
      step, (found, log_weights), (jnp.arange(num_steps), grid[:-1], grid[1:]))
  x = choose(draw_key, islands(problem.kept(clipped(denoiser, found.data))), smc.normalized(log_weights), num)
  shares = jnp.concatenate([first[None], shares])
  return Draws(x, {"nfe": (num_steps + 1) * denoiser.cost * num_particles / num, "effective_share": shares,
                   "least_effective_share": jnp.min(shares, axis=0), "log_evidence": jnp.sum(evidence, 0) + at_first})
