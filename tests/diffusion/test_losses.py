"""Predictions, preconditioning, weightings and times: conversions, and that all losses are one loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.analytic import PATHS
from hypothesis import given, settings
from hypothesis import strategies as st

from gdm.diffusion.paths.path import Level, noised
from gdm.diffusion.paths.variance_preserving import LogSNRLinear, VPLinear
from gdm.diffusion.preconditioning import Preconditioning
from gdm.diffusion.predictions import PREDICTIONS
from gdm.diffusion.recipes import find
from gdm.diffusion.times import TIMES, LogNormalTimes, UniformTimes, sample_times
from gdm.diffusion.weightings import (
  VLB,
  WEIGHTINGS,
  DiscreteVLB,
  EDMWeighting,
  Likelihood,
  MinSNR,
  Simple,
  weight_of,
)
from gdm.errors import ConfigError

NAMES = sorted(PREDICTIONS)
DRAWN = {"uniform": {}, "discrete": {"num_steps": 10}, "levels": {"num": 10}, "vlb_importance": {}, "log_normal": {}}


@settings(max_examples=60)
@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.floats(0.01, 0.99), st.floats(0.01, 3.0),
       st.floats(-5.0, -0.1), st.floats(0.0, 5.0), st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
def test_conversions_round_trip(source, target, alpha, sigma, alpha_rate, sigma_rate, data, noise):
  """Of any level, in plain float64; and each is what it says of data and noise."""
  source, target = PREDICTIONS[source], PREDICTIONS[target]
  level = Level(*(np.float64(a) for a in (alpha, sigma, alpha_rate, sigma_rate)))
  data, noise = np.float64(data), np.float64(noise)
  x = level.alpha * data + level.sigma * noise
  value = source.target.__func__(source, level, data, noise)
  close = {"rtol": 1e-9, "atol": 1e-6}
  np.testing.assert_allclose(source.data(level, x, value), data, **close)
  np.testing.assert_allclose(source.noise(level, x, value), noise, **close)
  there = target.target(level, source.data(level, x, value), source.noise(level, x, value))
  np.testing.assert_allclose(there, target.target(level, data, noise), **close)
  back = source.target(level, target.data(level, x, there), target.noise(level, x, there))
  np.testing.assert_allclose(back, value, **close)
  # The scale of an error, by moving the noise and, x given, the data with it.
  moved = source.target(level, data - level.sigma / level.alpha * 1e-3, noise + 1e-3)
  scale = abs(moved - value) / 1e-3
  if not isinstance(source, type(PREDICTIONS["noise"])):
    np.testing.assert_allclose(source.noise_scale(level), scale, rtol=1e-5, atol=1e-6)


@pytest.mark.fast_cases("0.0-velocity", "1.0-v", "1.0-velocity")
@pytest.mark.parametrize("name", ["v", "velocity"])
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_v_and_velocity_say_everything_at_both_ends(name, t):
  path, source = PATHS["rectified_flow"], PREDICTIONS[name]
  data, noise = jnp.asarray([[0.3, -2.0]]), jnp.asarray([[1.1, 0.2]])
  sample = noised(path, data, noise, jnp.asarray([t]))
  level = sample.level.like(data)
  value = source.target(level, data, noise)
  np.testing.assert_allclose(source.data(level, sample.x, value), data, rtol=1e-6)
  np.testing.assert_allclose(source.noise(level, sample.x, value), noise, rtol=1e-6)


@pytest.mark.slow
def test_the_velocity_is_the_paths_tangent():
  path = PATHS["cosine"]
  data, noise = jnp.asarray([[0.3, -2.0]]), jnp.asarray([[1.1, 0.2]])
  t = jnp.asarray([0.4])
  _, tangent = jax.jvp(lambda t: noised(path, data, noise, t).x, (t,), (jnp.ones(1),))
  sample = noised(path, data, noise, t)
  np.testing.assert_allclose(PREDICTIONS["velocity"].target(sample.level.like(data), data, noise), tangent, rtol=1e-5)


def test_preconditioned_inputs_and_targets_have_variance_one():
  around, rng = Preconditioning(0.7), np.random.default_rng(0)
  data, noise = 0.7 * rng.normal(size=(2, 5, 20_000)).astype(np.float32)
  noise = noise / 0.7
  sigma = jnp.asarray([[0.01], [0.2], [0.7], [5.0], [80.0]])
  x = data + sigma * noise
  np.testing.assert_allclose(np.std(around.coefficients(sigma).into * x, axis=1), 1.0, atol=0.02)
  target = around.target(sigma, x, jnp.asarray(data))
  np.testing.assert_allclose(np.std(target[1:], axis=1), 1.0, atol=0.02)
  np.testing.assert_allclose(around.data(sigma, x, target), data, atol=1e-4)


@pytest.mark.slow
def test_weightings_are_the_papers():
  path, t = VPLinear(), jnp.asarray([0.1, 0.5, 0.9])
  alpha, sigma = path.level(t)[:2]
  snr, noise, data = (alpha / sigma) ** 2, PREDICTIONS["noise"], PREDICTIONS["data"]

  def same(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4)

  same(weight_of(noise, Simple(), path, t), 1.0)
  same(weight_of(data, VLB(), path, t), -0.5 * jax.vmap(jax.grad(lambda t: jnp.exp(path.log_snr(t))))(t))
  same(weight_of(PREDICTIONS["score"], Likelihood(), path, t), path.diffusion(t))
  same(weight_of(data, MinSNR(2.0), path, t), jnp.minimum(snr, 2.0))
  same(weight_of(PREDICTIONS["v"], MinSNR(2.0), path, t), jnp.minimum(snr, 2.0) / (snr + 1.0))
  edm, t_edm = PATHS["edm"], jnp.asarray([0.01, 0.5])
  s = edm.sigma(t_edm)
  same(weight_of(data, EDMWeighting(0.5), edm, t_edm), (s**2 + 0.25) / (0.5 * s) ** 2)
  same(weight_of(PREDICTIONS["velocity"], Likelihood(), path, t) * (path.diffusion(t) / 2.0) ** 2,
       path.diffusion(t))  # the velocity is f x - g^2 score / 2
  same(DiscreteVLB(1000)(path, t), 1000 / 2 * (jnp.exp(path.log_snr(t - 1e-3)) / snr - 1.0))
  np.testing.assert_allclose(DiscreteVLB(100)(LogSNRLinear(), t), VLB()(LogSNRLinear(), t), rtol=0.12)
  assert all(np.all(np.isfinite(kind(**({"num_steps": 9} if name == "discrete_vlb" else {}))(LogSNRLinear(), t)))
             for name, kind in WEIGHTINGS.items())


@pytest.mark.fast_cases("levels")
@pytest.mark.parametrize("name", TIMES)
def test_times_follow_their_density(name):
  """Quantiles of draws are where the ranks say, and the density is the slope of ranks by time."""
  path, num = VPLinear(), 4000
  drawn = jax.jit(lambda key: sample_times(TIMES[name](**DRAWN[name]), path, key, num))(jax.random.key(1))
  t = np.asarray(drawn.t)
  assert (t >= path.ends[0]).all() and (t <= path.ends[1]).all()
  ranks = np.linspace(0.05, 0.95, 7).astype(np.float32)
  quantiles = np.asarray(TIMES[name](**DRAWN[name]).at(path, jnp.asarray(ranks)).t)
  if name in ("discrete", "levels"):
    np.testing.assert_array_equal(np.unique(t, return_counts=True)[1], num // 10)
  else:
    np.testing.assert_allclose(np.quantile(t, ranks), quantiles, atol=2e-3)
    step = 1e-3
    ahead = TIMES[name]().at(path, jnp.asarray(ranks + step)).t - TIMES[name]().at(path, jnp.asarray(ranks - step)).t
    np.testing.assert_allclose(2.0 * step / ahead, TIMES[name]().at(path, jnp.asarray(ranks)).density, rtol=0.02)


@pytest.mark.slow
def test_importance_sampled_times_estimate_the_same_integral():
  """Of t sigma^2 g^2 / sigma^2, with less spread where the integrand follows the density."""
  path = VPLinear()

  def estimate(distribution):
    t, density = distribution.at(path, jax.random.uniform(jax.random.key(0), (8192,)))
    values = path.diffusion(t) / path.sigma(t) ** 2 / density
    return float(values.mean()), float(values.std())

  length = float(path.log_snr(1e-5) - path.log_snr(1.0))
  mean, spread = estimate(TIMES["vlb_importance"]())
  assert mean == pytest.approx(length, rel=1e-3) and spread < 1e-2 * length
  uniform, wide = estimate(UniformTimes())
  assert wide > length and abs(uniform - length) < 5.0 * wide / np.sqrt(8192)


def test_low_discrepancy_times_are_one_in_each_part():
  t = np.asarray(sample_times(UniformTimes(), PATHS["ve"], jax.random.key(0), 64).t)
  np.testing.assert_array_equal(np.sort(np.floor(t * 64)), np.arange(64))
  assert (np.diff(t) < 0.0).any(), "in random order"


@pytest.mark.parametrize(("build", "message"), [
    (lambda: find("prediction", "nois", PREDICTIONS), "prediction is 'nois'; did you mean 'noise'"),
    (lambda: find("weighting", "vbl", WEIGHTINGS), "did you mean 'vlb'"),
    (lambda: find("times", "unifrm", TIMES), "did you mean 'uniform'"), (lambda: DiscreteVLB(0), "num_steps is 0"),
    (lambda: MinSNR(0.0), "gamma"), (lambda: EDMWeighting(0.0), "sigma_data"),
    (lambda: LogNormalTimes(0.0, 0.0), "std"),
    (lambda: Preconditioning(-1.0), "sigma_data")])
def test_bad_input(build, message):
  with pytest.raises(ConfigError, match=message):
    build()
