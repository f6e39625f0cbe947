"""Sequential Monte Carlo: particles that are drawn given the measurement, weighted and resampled (in the manner of
MCGDiff: Cardoso et al., arXiv:2308.07983).

The law of the chain from noise to data is multiplied by potentials of the states,
  G_t(x) = N(y; A c_t x, r_t^2 A A^T + sigma_y^2 I), c_t = alpha / (alpha^2 + sigma^2), r_t^2 = sigma^2 / (alpha^2 +
  sigma^2),
which are p(y | x_t) where data are standard normal, and p(y | x_0) at the data. So the last states have the right law
whatever the potentials before: in the limit of many particles the draws are from the posterior of the chain's data.
Steps and potentials are normal, so particles are drawn from their product and weighted by its integral, which does not
depend on the draw: they are resampled before they move. No gradient is needed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.inference import sequential_monte_carlo as smc
from gdm.inverse.problem import Problem
from gdm.inverse.samplers.steps import Draws, clipped, predict, reverse, size, spread, times
from gdm.model import Denoiser


class Observed(NamedTuple):
  """y seen from a state of mean m and variance v: N(y; factor A m, v factor^2 A A^T + spread A A^T + sigma_y^2 I)."""

  factor: Float[Array, ""]
  variance: Float[Array, ""]
  spread: Float[Array, ""]

  def total(self, singular: Float[Array, "*shape"], noise: Float[Array, ""]) -> Float[Array, "*shape"]:
    """Return the variance of y in each coordinate."""
    return (self.variance * self.factor**2 + self.spread) * singular**2 + noise**2


def log_density(problem: Problem, seen: Observed, mean: Float[Array, "rows *event"]) -> Float[Array, " rows"]:
  """Return log N(y; ...) of each row, up to a constant of y, in nats."""
  residual = problem.y - seen.factor * problem.operator.forward(mean)

  def precision(singular):
    return jnp.where(singular > 0.0, 1.0 / seen.total(singular, problem.noise), 0.0)

  square = residual * problem.spectrum.left(precision, residual)
  log_det = jnp.sum(jnp.log(seen.total(problem.spectrum.singular, problem.noise)))
  return -0.5 * (jnp.sum(square.reshape(len(mean), -1), axis=1) + log_det)


def posterior_draw(problem: Problem, key: Key[Array, ""], seen: Observed,
                   mean: Float[Array, "rows *event"]) -> Float[Array, "rows *event"]:
  """Draw from N(mean, variance I) given y."""
  residual = problem.y - seen.factor * problem.operator.forward(mean)

  def gain(singular):
    return jnp.where(singular > 0.0, seen.variance * seen.factor / seen.total(singular, problem.noise), 0.0)

  def deviation(singular):
    rest = seen.spread * singular**2 + problem.noise**2
    return jnp.sqrt(seen.variance * jnp.where(singular > 0.0, rest / seen.total(singular, problem.noise), 1.0))

  mean = mean + problem.operator.adjoint(problem.spectrum.left(gain, residual))
  return mean + problem.spectrum.apply(deviation, jax.random.normal(key, mean.shape, mean.dtype))


def particles(denoiser: Denoiser, problem: Problem, key: Key[Array, ""], num: int, *, num_steps: int = 100,
              num_particles: int = 256) -> Draws:
  """Draw by particles, for each measurement its own.

  Info has "effective_share" [steps + 1, batch], the effective sample size before each move as a share of the particles
  (they are resampled below a half); "least_effective_share"; and "log_evidence" [batch], an estimate of log p(y) in
  nats up to a constant of the operator.

  Args:
    denoiser: the prior; rows of a call are particles x measurements.
    problem: the measurements.
    key: of the draws.
    num: draws of each measurement, from its particles by their weights.
    num_steps: steps.
    num_particles: particles of each measurement.
  """
  batch = len(problem.y)
  problem = problem.repeated(num_particles)
  event, grid = problem.operator.event, times(denoiser, num_steps)

  def islands(values: Array) -> Array:  # [particles * batch, ...] -> [batch, particles, ...]
    return jnp.swapaxes(values.reshape(num_particles, batch, *values.shape[1:]), 0, 1)

  def rows(values: Array) -> Array:
    return jnp.swapaxes(values, 0, 1).reshape(num_particles * batch, *values.shape[2:])

  def state_factor(t: Array) -> Array:
    return denoiser.alpha(t) / size(denoiser, t) ** 2

  def reweighted(key, log_weights, gains, mean):
    """Add log-weights; resample means of the islands whose weights have grown uneven."""
    log_weights = log_weights + islands(gains)
    evidence = jax.nn.logsumexp(log_weights, axis=1)
    weights = smc.normalized(log_weights)
    share = smc.effective_share(weights)
    uneven = (share < smc.LEAST_SHARE)[:, None]
    taken = jnp.where(uneven, smc.resampled(key, weights), jnp.arange(num_particles))
    log_weights = jnp.where(uneven, -jnp.log(num_particles), jnp.log(weights))
    return log_weights, rows(smc.select(islands(mean), taken)), share, evidence

  def step(state, now):
    x, log_weights = state
    index, t, s = now
    resample_key, move_key = jax.random.split(jax.random.fold_in(key, index))
    q = reverse(denoiser, t, s)
    mean = q.of_x * x + q.of_data * clipped(denoiser, predict(denoiser, x, t))
    here = Observed(state_factor(t), jnp.zeros(()), spread(denoiser, t))
    ahead = Observed(state_factor(s), q.variance, spread(denoiser, s))
    gains = log_density(problem, ahead, mean) - log_density(problem, here, x)
    log_weights, mean, share, evidence = reweighted(resample_key, log_weights, gains, mean)
    return (posterior_draw(problem, move_key, ahead, mean), log_weights), (share, evidence)

  # At first: noise given y, by the potential there.
  first = Observed(state_factor(grid[0]), size(denoiser, grid[0]) ** 2, spread(denoiser, grid[0]))
  start_key, draw_key, last_key, key = jax.random.split(key, 4)
  x = posterior_draw(problem, start_key, first, jnp.zeros((num_particles * batch, *event)))
  log_weights = jnp.full((batch, num_particles), -jnp.log(num_particles))
  (x, log_weights), (shares, evidence) = jax.lax.scan(
      step, (x, log_weights), (jnp.arange(num_steps), grid[:-1], grid[1:]))
  # At last the predicted data, weighted by p(y | x_0); r_t^2 stands for what is left of the noise.
  mean = clipped(denoiser, predict(denoiser, x, grid[-1]))
  last = Observed(jnp.ones(()), spread(denoiser, grid[-1]), jnp.zeros(()))
  here = Observed(state_factor(grid[-1]), jnp.zeros(()), spread(denoiser, grid[-1]))
  gains = log_density(problem, last, mean) - log_density(problem, here, x)
  log_weights, mean, share, final = reweighted(last_key, log_weights, gains, mean)
  weights = smc.normalized(log_weights)
  x = choose(draw_key, islands(problem.kept(mean)), weights, num)
  shares = jnp.concatenate([shares, share[None]])
  return Draws(x, {"nfe": (num_steps + 1) * denoiser.cost * num_particles / num, "effective_share": shares,
                   "least_effective_share": jnp.min(shares, axis=0), "log_evidence": jnp.sum(evidence, 0) + final})


def choose(key: Key[Array, ""], x: Float[Array, "batch particles *event"], weights: Float[Array, "batch particles"],
           num: int) -> Float[Array, "num batch *event"]:
  """Return `num` particles of each measurement by their weights, in random order: systematic resampling."""
  shift_key, order_key = jax.random.split(key)
  places = (jnp.arange(num) + jax.random.uniform(shift_key, (len(weights), 1))) / num
  sums = jnp.cumsum(weights, axis=1)
  found = jnp.minimum(jax.vmap(lambda a, b: jnp.searchsorted(a, b, side="right"))(sums, places), weights.shape[1] - 1)
  found = jax.random.permutation(order_key, found, axis=1, independent=True)
  return jnp.swapaxes(jax.vmap(lambda own, taken: own[taken])(x, found), 0, 1)
