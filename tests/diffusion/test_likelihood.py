"""Likelihoods where the density is known: by the ODE, and by the variational bound."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.analytic import GAUSSIAN, PATHS, TWO, Counting

from gdm.diffusion.bound import (
  diffusion_loss,
  discrete_reconstruction_loss,
  prior_loss,
  reconstruction_loss,
  squared_error,
  step_loss,
)
from gdm.diffusion.paths.path import noised, prior_scale
from gdm.diffusion.paths.variance_preserving import LogSNRLinear, VPLinear
from gdm.diffusion.probability_flow import log_likelihood
from gdm.diffusion.times import LogSNRTimes, sample_times
from gdm.diffusion.weightings import DiscreteVLB
from gdm.errors import ConfigError
from gdm.inference.divergence import ExactTrace, Hutchinson, divergence
from gdm.inference.ode import Tolerance, ToleranceError, require_solved

KEY = jax.random.key(0)


def at_the_end(mixture, path, out):
  """Log-densities of an ODE whose end has the true density there, not the normal that a model takes for it."""
  scale, latent = np.asarray(prior_scale(path)), out.latent
  normal = -0.5 * np.sum((latent / scale) ** 2 + np.log(2.0 * np.pi * scale**2), axis=-1)
  return out.log_prob - normal + mixture.log_prob(path, latent, jnp.full(len(latent), path.ends[1]))


@pytest.mark.fast_cases("sub_vp")
@pytest.mark.parametrize("name", ["vp_linear", "sub_vp", "edm", "rectified_flow"])
def test_the_ode_finds_the_density(name):
  path, denoise, tolerance = PATHS[name], Counting(TWO.denoise(PATHS[name])), Tolerance(1e-6, 1e-6)
  with jax.enable_x64(True):
    x = TWO.sample(1, 6)
    out = jax.jit(lambda x: log_likelihood(denoise, path, x, KEY, ExactTrace(), tolerance))(jnp.asarray(x))
    jax.effects_barrier()
    log_prob = at_the_end(TWO, path, out)
  np.testing.assert_allclose(log_prob, TWO.log_density(x), atol=2e-4)
  np.testing.assert_allclose(out.log_prob, TWO.log_density(x), atol=4e-3)  # alpha is not quite 0 at the end
  require_solved(out.nfe, out.solved, tolerance)
  assert denoise.calls == out.nfe


@pytest.mark.slow
def test_probes_are_unbiased_and_the_divergence_is_the_jacobians_trace():
  rng = np.random.default_rng(0)
  matrix = jnp.asarray(rng.normal(size=(4, 4)), jnp.float32)

  def field(x):
    return jnp.sin(x.reshape(-1, 4) @ matrix).reshape(x.shape)

  x = jnp.asarray(rng.normal(size=(3, 2, 2)), jnp.float32)
  value, exact = divergence(field, x, ExactTrace().probes(KEY, x.shape))
  np.testing.assert_allclose(value, field(x), rtol=1e-6)
  trace = [np.trace(jax.jacobian(lambda x: field(x[None])[0])(one).reshape(4, 4)) for one in x]
  np.testing.assert_allclose(exact, trace, rtol=1e-5, atol=1e-6)
  _, estimate = divergence(field, x, Hutchinson(20_000).probes(KEY, x.shape))
  np.testing.assert_allclose(estimate, exact, atol=0.1)


@pytest.mark.slow
def test_hutchinson_is_exact_where_the_jacobian_is_a_multiple_of_one():
  path = VPLinear()
  x = GAUSSIAN.sample(2, 3).astype(np.float32)
  out = jax.jit(lambda x: log_likelihood(GAUSSIAN.denoise(path), path, x, KEY, Hutchinson(2)))(jnp.asarray(x))
  np.testing.assert_allclose(at_the_end(GAUSSIAN, path, out), GAUSSIAN.log_density(x), atol=1e-3)


@pytest.mark.slow
def test_an_ode_out_of_tolerance_says_so():
  path, tolerance = VPLinear(), Tolerance(1e-7, 1e-8, max_steps=4)
  out = jax.jit(lambda x: log_likelihood(TWO.denoise(path), path, x, KEY, ExactTrace(), tolerance))(jnp.ones((2, 2)))
  assert np.isnan(out.log_prob).all()
  with pytest.raises(ToleranceError, match=r"rtol=1e-07, atol=1e-08 after \d+ evaluations \(max_steps=4\)"):
    require_solved(out.nfe, out.solved, tolerance)


@pytest.mark.fast_cases("rectified_flow")
@pytest.mark.parametrize("name", ["edm", "rectified_flow", "vp_linear"])
def test_the_continuous_time_bound_meets_the_density(name):
  """With the true score and hardly any noise at first, the bound is the density itself, at each x."""
  path, num = PATHS[name], 65536

  @jax.jit
  def draws(key):
    time_key, noise_key = jax.random.split(key)
    return *sample_times(LogSNRTimes(), path, time_key, num), jax.random.normal(noise_key, (num, 2))

  @jax.jit
  def terms(x, t, density, noise):
    data = jnp.broadcast_to(x, (num, 2))
    sample = noised(path, data, noise, t)
    level = sample.level.like(data)
    predicted = (sample.x - level.alpha * TWO.denoise(path)(sample.x, t)) / level.sigma
    return (prior_loss(path, data[:1]), diffusion_loss(path, t, noise, predicted, density),
            reconstruction_loss(path, data))

  for i, x in enumerate(TWO.sample(3, 3)):
    with jax.enable_x64(True):
      prior, diffusion, reconstruction = (np.asarray(a) for a in terms(x, *draws(jax.random.key(i))))
    bound = -(prior[0] + diffusion.mean() + reconstruction.mean())
    error = math.sqrt(diffusion.var() / num)
    assert prior[0] < 1e-2
    assert error < 0.1
    assert abs(bound - TWO.log_density(x[None])[0]) < 4.0 * error + 5e-3


@pytest.mark.slow
def test_the_gap_of_discrete_time_shrinks_with_its_steps():
  """Means over data and noise are known for Gaussian data: of ||noise - E[noise | x_t]||^2, the posterior variance."""
  path, variance, dims = LogSNRLinear(10.0, -8.0), GAUSSIAN.variances[0], 2

  @functools.cache
  @functools.partial(jax.jit, static_argnums=0)
  def bound(num_steps):
    t = jnp.arange(1, num_steps + 1) / num_steps
    alpha, sigma = path.level(t)[:2]
    left = alpha**2 * variance / (alpha**2 * variance + sigma**2)
    return jnp.mean(DiscreteVLB(num_steps)(path, t) * dims * left)

  gaps = [bound(num) - bound(4000) for num in (25, 50, 100)]
  assert gaps[0] > gaps[1] > gaps[2] > 0.0
  assert 1.7 < gaps[0] / gaps[1] < 2.3 and 1.7 < gaps[1] / gaps[2] < 2.3
  # The whole of it is the entropy of the data, in nats.
  data = np.asarray(GAUSSIAN.means) ** 2 + variance
  prior = float(prior_loss(path, jnp.sqrt(jnp.asarray(data)))[0])
  reconstruction = float(reconstruction_loss(path, jnp.zeros((1, dims)))[0])
  entropy = 0.5 * dims * math.log(2.0 * math.pi * math.e * variance)
  assert prior + float(bound(4000)) + reconstruction == pytest.approx(entropy, abs=0.02)


def exact_noise(path, sample, levels):
  """E[noise | x_t] of independent numbers: each of `levels` values as often, or normal where that is None."""
  level = sample.level.like(sample.x)
  if levels is None:
    data = level.alpha * sample.x / (level.alpha**2 + level.sigma**2)
  else:
    values = jnp.linspace(-1.0, 1.0, levels)
    error = (sample.x[..., None] - level.alpha[..., None] * values) / level.sigma[..., None]
    data = jax.nn.softmax(-0.5 * error**2) @ values
  return (sample.x - level.alpha * data) / level.sigma


@pytest.mark.fast_cases("None-0.2")
@pytest.mark.parametrize(("levels", "gain"), [(None, 0.2), (64, 0.5), (17, 1.0)])
def test_the_control_variate_changes_the_spread_alone(levels, gain):
  """At each time, over log-SNRs to where the levels are apart; below MIN_LEVELS it is none, so no error is negative.

  Of a step's loss too, which is the weight of discrete time over its steps.
  """
  path, num, dims = LogSNRLinear(2.0 * math.log(4.0 * ((levels or 64) - 1)), -5.0), 4000, 2

  @jax.jit
  def errors(t, key):
    data_key, noise_key = jax.random.split(key)
    data = (jax.random.normal(data_key, (num, dims)) if levels is None
            else jax.random.randint(data_key, (num, dims), 0, levels) * (2.0 / (levels - 1)) - 1.0)
    t = jnp.full(num, t)
    sample = noised(path, data, jax.random.normal(noise_key, data.shape), t)
    predicted = exact_noise(path, sample, levels)
    step = step_loss(path, t - 1e-2, t, sample.noise, predicted, levels)
    error = squared_error(path, t, sample.noise, predicted, levels)
    return jnp.sum((sample.noise - predicted) ** 2, axis=1), error, step - DiscreteVLB(100)(path, t) * error / 100

  plain, least = [], []
  for i, t in enumerate(np.linspace(0.02, 1.0, 12)):
    before, after, off = (np.asarray(a, np.float64) for a in errors(t, jax.random.key(i)))
    assert abs(np.mean(after - before)) <= 4.0 * np.std(after - before) / math.sqrt(num), "unbiased"
    np.testing.assert_allclose(off, 0.0, atol=1e-3)
    if levels == 17:
      assert after.min() >= 0.0
    plain.append(before.var())
    least.append(after.var())
  assert np.mean(least) <= gain * np.mean(plain)


@pytest.mark.slow
def test_discrete_reconstruction_is_a_distribution_over_levels():
  path = LogSNRLinear(5.0, -5.0)
  x, values = jax.random.normal(KEY, (3, 2)), np.linspace(-1.0, 1.0, 4)
  cells = jnp.stack([jnp.stack(jnp.meshgrid(jnp.arange(4), jnp.arange(4)), -1).reshape(-1, 2)] * 3)
  score = jax.vmap(lambda data: discrete_reconstruction_loss(path, x, data, values), 1)(cells)
  np.testing.assert_allclose(np.exp(-score).sum(axis=0), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_the_prior_loss_is_the_divergence_of_two_normals():
  path = LogSNRLinear(5.0, -1.0)
  alpha, sigma = path.level(jnp.asarray(1.0))[:2]
  draws = alpha * 0.7 + sigma * np.random.default_rng(0).normal(size=400_000)
  log_q = jax.scipy.stats.norm.logpdf(draws, alpha * 0.7, sigma)
  truth = np.mean(log_q - jax.scipy.stats.norm.logpdf(draws))
  np.testing.assert_allclose(prior_loss(path, jnp.full((1, 1), 0.7)), truth, rtol=0.02)


@pytest.mark.parametrize(("build", "message"), [
    (functools.partial(Tolerance, rtol=0.0), r"rtol is 0\.0"), (functools.partial(Tolerance, max_steps=0), "max_steps"),
    (functools.partial(Hutchinson, 0), "num_probes is 0")])
def test_bad_input(build, message):
  with pytest.raises(ConfigError, match=message):
    build()
