"""Noise paths: their parts agree with each other, with autodiff, with steps, and with the papers' discrete forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.analytic import PATHS

from gdm.diffusion.paths.discrete import discretize, linear_betas
from gdm.diffusion.paths.path import NoisePath, noised, prior_scale, transition
from gdm.diffusion.paths.rectified_flow import RectifiedFlow
from gdm.diffusion.paths.variance_exploding import VE, EDMPath
from gdm.diffusion.paths.variance_preserving import Cosine, LogSNRLinear, PiecewiseBeta, SubVP, VPLinear
from gdm.diffusion.recipes import PATHS as NAMED
from gdm.diffusion.recipes import find
from gdm.diffusion.vdm import BoundSchedule, LearnedEnds, MonotoneNetwork
from gdm.errors import ConfigError

MODULES = {"learned_ends": LearnedEnds(8.0, -6.0), "monotone_network": MonotoneNetwork(8, 8.0, -6.0)}
each = pytest.mark.parametrize("name", [*PATHS, *MODULES])


@functools.cache
def made(name):
  if name in PATHS:
    return PATHS[name]
  module = MODULES[name]
  return BoundSchedule(module, module.init(jax.random.key(1), jnp.zeros(2))["params"])


@functools.cache
def parts(name):
  """Everything a path says of some times, in float64: times, values, their slopes, and steps from one end to the other.

  The last of the times is outside.
  """
  path = made(name)

  def of(t, ends):
    steps = jnp.linspace(*ends, 41)
    return {"alpha": path.alpha(t), "sigma": path.sigma(t), "log_snr": path.log_snr(t), "rate": path.log_snr_rate(t),
            "level": path.level(t), "drift": path.drift(t), "diffusion": path.diffusion(t),
            "time": path.time(path.log_snr(t))}, (path.level(ends), transition(path, steps[:-1], steps[1:]))

  with jax.enable_x64(True):
    start, end = path.ends
    # Not at the ends, nor at the corners of a piecewise rate.
    t = np.linspace(start, end, 38)[1:-1] + 1e-4
    t = np.append(t[(t > start) & (t < end)], 1.5)
    compiled, step, ends = jax.jit(of), 1e-6, np.asarray(path.ends)
    out, steps = jax.tree.map(np.asarray, compiled(t, ends))
    slope = jax.tree.map(lambda a, b: np.asarray(a - b) / (2 * step), compiled(t + step, ends)[0],
                         compiled(t - step, ends)[0])
    return t, out, slope, steps


@pytest.mark.fast_cases("edm")
@each
def test_its_parts_agree(name):
  _, at, slope, _ = parts(name)
  assert all(np.isnan(a[-1]) and np.isfinite(a[:-1]).all() for a in jax.tree.leaves(at)), "but the time outside"
  assert (np.diff(at["log_snr"][:-1]) < 0.0).all()
  alpha, sigma = at["alpha"], at["sigma"]
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-9)
  close(at["log_snr"], 2.0 * np.log(alpha / sigma), atol=1e-6)
  close(at["level"].alpha, alpha)
  close(at["level"].sigma, sigma)
  close(at["level"].alpha_rate, slope["alpha"], atol=1e-6)
  close(at["level"].sigma_rate, slope["sigma"], rtol=1e-4)
  close(at["rate"], slope["log_snr"], rtol=1e-4)
  close(at["drift"], at["level"].alpha_rate / alpha, atol=1e-6)
  close(at["diffusion"], -(sigma**2) * at["rate"])
  close(at["diffusion"], 2 * sigma * at["level"].sigma_rate - 2 * at["drift"] * sigma**2)


@pytest.mark.fast_cases("sub_vp", "log_snr_linear", "ve", "edm", "rectified_flow")
@each
def test_the_time_of_a_log_snr(name):
  t, at, _, _ = parts(name)
  np.testing.assert_allclose(at["time"][:-1], t[:-1], atol=1e-9)
  path = made(name)
  ends = jnp.asarray(path.ends)  # in float32, at the ends themselves
  log_snr = path.log_snr(ends)
  np.testing.assert_allclose(path.time(log_snr), ends, atol=3e-6)
  assert isinstance(path, NoisePath)
  if np.isfinite(path.log_snr(jnp.ones(2))).all():
    assert np.isnan(path.time(log_snr - 30.0)[1]), "of noise that it never has"


@pytest.mark.fast_cases("vp_linear", "cosine", "learned_ends")
@pytest.mark.parametrize("name", ["vp_linear", "cosine", "log_snr_linear", "piecewise_beta", *MODULES])
def test_variance_is_preserved(name):
  at = parts(name)[1]
  np.testing.assert_allclose((at["alpha"] ** 2 + at["sigma"] ** 2)[:-1], 1.0, rtol=1e-12)


@each
def test_one_jump_is_many_steps(name):
  """q(x_t | x_0) by 40 transitions, exactly and in draws."""
  level, steps = parts(name)[3]
  scale, variance = level.alpha[0], level.sigma[0] ** 2
  rng, num = np.random.default_rng(0), 4000
  x = 0.7 * scale + np.sqrt(variance) * rng.normal(size=num)
  for a, v in zip(*steps, strict=True):
    scale, variance = a * scale, a**2 * variance + v
    x = a * x + np.sqrt(v) * rng.normal(size=num)
  np.testing.assert_allclose([scale, np.sqrt(variance)], [level.alpha[1], level.sigma[1]], rtol=1e-9)
  jump = 0.7 * level.alpha[1] + level.sigma[1] * rng.normal(size=num)
  assert abs(x.mean() - jump.mean()) < 5 * math.sqrt(2 * variance / num)
  assert abs(x.var() / jump.var() - 1.0) < 5 * 2 / math.sqrt(num)


EXTREME = {
    "vp_linear, much noise": VPLinear(0.1, 1000.0), "vp_linear, falling": VPLinear(1000.0, 0.1),
    "sub_vp, much noise": SubVP(0.1, 1000.0), "sub_vp, little noise": SubVP(1e-4, 1e-3),
    "piecewise_beta, much noise": PiecewiseBeta((0.999,) * 30),
    "piecewise_beta, uneven": PiecewiseBeta((1e-6, 0.999999)),
    "cosine, sharp": Cosine(1e-4), "cosine, flat": Cosine(1.0), "log_snr_linear": LogSNRLinear(200.0, -200.0),
    "ve": VE(1e-5, 1e4), "ve, narrow": VE(1.0, 1.01), "edm": EDMPath(1e-5, 1e4), "rectified_flow": RectifiedFlow(1e-6)}


@pytest.mark.fast_cases("vp_linear, much noise", "sub_vp, much noise", "piecewise_beta, much noise")
@pytest.mark.parametrize("name", EXTREME)
def test_extreme_settings_in_float32(name):
  """exp(B) is infinite in float32 from B = 89 on, and alpha^2 is 0; the log-SNR, its rate and inverse are finite."""
  path = EXTREME[name]
  start, end = path.ends
  # Not at the corners of a piecewise rate.
  inner = start + (end - start) * np.concatenate([np.geomspace(1e-5, 0.01, 9), np.linspace(0.021, 0.983, 31)])
  t = np.array([start, *inner, end], np.float32)
  at = jax.jit(lambda t: (path.log_snr(t), path.log_snr_rate(t), path.alpha(t), path.sigma(t), path.level(t),
                          path.drift(t), path.diffusion(t), path.time(path.log_snr(t))))(t)
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(at))
  log_snr, slope, alpha, sigma, *_, time = (np.asarray(a, np.float64) for a in at if not isinstance(a, tuple))
  np.testing.assert_allclose(time, t, atol=1e-5)
  seen = np.minimum(alpha, sigma) > 1e-36
  np.testing.assert_allclose(log_snr[seen], 2.0 * np.log(alpha[seen] / sigma[seen]), rtol=1e-4, atol=1e-4)
  with jax.enable_x64(True):
    wide = t[1:-1].astype(np.float64)
    step = 1e-6 * np.minimum(wide, 1.0 - wide)
    rate = (path.log_snr(wide + step) - path.log_snr(wide - step)) / (2.0 * step)
  np.testing.assert_allclose(slope[1:-1], rate, rtol=1e-3)


def test_noised_data_says_what_it_is():
  path, key = RectifiedFlow(), jax.random.key(0)
  data, noise, t = jnp.ones((2, 3, 1)), jax.random.normal(key, (2, 3, 1)), jnp.asarray([0.25, 1.0])
  sample = noised(path, data, noise, t)
  np.testing.assert_allclose(sample.x[0], 0.75 * data[0] + 0.25 * noise[0], rtol=1e-6)
  np.testing.assert_allclose(sample.x[1], noise[1], rtol=1e-6)
  assert sample.level.alpha.shape == (2,)


@pytest.mark.slow
def test_alpha_bar_of_discrete_betas_is_the_paths():
  betas = linear_betas(1000)
  assert betas[0] == pytest.approx(1e-4) and betas[-1] == pytest.approx(0.02)
  path = PiecewiseBeta(betas)
  schedule = discretize(path, 1000)
  alpha_bar = np.cumprod(1.0 - np.asarray(betas))
  t = jnp.arange(1, 1001) / 1000
  np.testing.assert_allclose(schedule.alpha(t) ** 2, alpha_bar, rtol=1e-4)
  np.testing.assert_allclose(schedule.betas, betas, rtol=2e-3)  # of alpha_bar in float32
  np.testing.assert_allclose(path.alpha(t) ** 2, alpha_bar, rtol=1e-4)


def test_discrete_and_continuous_forms_come_together():
  """DDPM's betas and Song's beta(t): the log of alpha_bar differs by a multiple of 1 / T."""
  errors = []
  for num in (250, 1000):
    alpha_bar = np.cumprod(1.0 - np.asarray(linear_betas(num)))
    t = np.arange(1, num + 1, dtype=np.float32) / num
    errors.append(np.abs(np.log(alpha_bar) - 2.0 * np.log(VPLinear().alpha(t))).max())
  assert errors[1] < 0.15
  assert 3.5 < errors[0] / errors[1] < 4.5


def test_the_cosine_schedule_is_the_papers():
  num, s = 100, 0.008
  f = np.cos((np.arange(num + 1) / num + s) / (1 + s) * np.pi / 2) ** 2
  betas = np.minimum(1.0 - f[1:] / f[:-1], 0.999)
  schedule = discretize(Cosine(s), num)
  np.testing.assert_allclose(schedule.betas, betas, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(schedule.alpha(np.arange(1, num + 1) / np.float32(num)) ** 2, np.cumprod(1.0 - betas),
                             rtol=1e-3)


@pytest.mark.fast_cases("learned_ends")
@pytest.mark.parametrize("name", MODULES)
def test_learned_paths_start_at_their_ends_and_learn(name):
  path = made(name)
  np.testing.assert_allclose(path.log_snr(jnp.asarray([0.0, 1.0])), [8.0, -6.0], rtol=1e-6)

  @jax.jit
  @jax.grad
  def gradient(path):
    return jnp.sum(path.log_snr(jnp.asarray([0.2, 0.6])) ** 2) + path.time(jnp.asarray(1.0))

  moved = [np.abs(g).max() for g in jax.tree.leaves(gradient(path))]
  # A line's first weight and bias are what the scaling to [0, 1] takes away where nothing else is: not here.
  assert all(m > 0.0 for m in moved), jax.tree.map(jnp.shape, path.params)


def test_the_time_of_a_learned_log_snr_has_the_inverse_functions_gradient():
  """lambda(time(c)) = c for all parameters, so d time / d p = -(d lambda / d p) / lambda'."""
  path = made("learned_ends")
  gradient = jax.grad(lambda path: path.time(jnp.asarray(1.0)))(path).params
  np.testing.assert_allclose(gradient["start"], 1.0 / 14.0, rtol=1e-4)
  np.testing.assert_allclose(gradient["range"], -0.5 / 14.0, rtol=1e-4)


@each
def test_times_outside_are_refused(name):
  path = made(name)
  for function in (path.alpha, path.sigma, path.log_snr, path.level, path.drift, path.diffusion, path.log_snr_rate):
    with pytest.raises(ConfigError, match=r"time is 1\.5"):
      function(jnp.asarray([0.5, 1.5]))
  with pytest.raises(ConfigError, match=r"\[0, 1\]"):
    path.alpha(-0.1)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: VPLinear(beta_min=-0.1), r"beta_min is -0\.1.*t = 0"),
    (lambda: SubVP(beta_max=0.0), r"beta_max is 0\.0.*t = 1"),
    (lambda: LogSNRLinear(-5.0, 5.0), "log_snr_max is -5.0"),
    (lambda: PiecewiseBeta((0.1, 0.2, -0.1)), r"betas\[2\] is -0\.1.*step 2 to 3"),
    (lambda: PiecewiseBeta(()), "at least one"),
    (lambda: VE(2.0, 1.0), "sigma_min is 2.0"),
    (lambda: EDMPath(0.0), "sigma_min is 0.0"),
    (lambda: Cosine(0.0), "offset"),
    (lambda: RectifiedFlow(0.7), "margin is 0.7"),
    (lambda: LearnedEnds(1.0, 2.0).init(jax.random.key(0), jnp.zeros(1)), "log_snr_max is 1.0"),
    (lambda: find("path", "cosin", NAMED), "did you mean 'cosine'"),
    (lambda: discretize(Cosine(), 0), "num_steps is 0"),
])
def test_schedules_whose_snr_rises_are_refused(build, message):
  with pytest.raises(ConfigError, match=message):
    build()


def test_where_to_start_from():
  assert prior_scale(find("path", "vp_linear", NAMED)) == pytest.approx(1.0)
  assert prior_scale(find("path", "edm", NAMED, sigma_max=3.0)) == pytest.approx(math.sqrt(10.0))
