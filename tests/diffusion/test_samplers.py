"""Samplers with the true score: they find mean and covariance, at their order, at the price they say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.analytic import GAUSSIAN, PATHS, TWO, Counting, moved

from gdm.diffusion.paths.path import prior_scale
from gdm.diffusion.paths.rectified_flow import RectifiedFlow
from gdm.diffusion.paths.variance_preserving import LogSNRLinear, VPLinear
from gdm.diffusion.predictions import PREDICTIONS, denoiser
from gdm.diffusion.samplers.adaptive import Adaptive
from gdm.diffusion.samplers.ancestral import Ancestral, LearnedAncestral
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.dpm_solver import DPMSolver
from gdm.diffusion.samplers.grids import LogSNRGrid, RhoGrid, UniformGrid
from gdm.diffusion.samplers.guidance import Guidance, Guided
from gdm.diffusion.samplers.heun import Heun
from gdm.diffusion.samplers.langevin import AnnealedLangevin
from gdm.diffusion.samplers.named import SAMPLERS, sample_by
from gdm.diffusion.samplers.sampler import Sampler, sample
from gdm.diffusion.samplers.sde import EulerMaruyama, PredictorCorrector
from gdm.errors import ConfigError
from gdm.inference.ode import Tolerance

KEY = jax.random.key(0)
NUM = 2000

# Sampler, path, grid, steps: enough of them for the error of the steps to be below that of the draws.
CASES = {
    "ancestral": (Ancestral(), "vp_linear", UniformGrid(last=0.0), 200),
    "ancestral_forward": (Ancestral("forward"), "cosine", UniformGrid(), 200),
    "ddim": (DDIM(), "vp_linear", LogSNRGrid(to_zero=True), 50),
    "ddim_eta": (DDIM(0.5), "cosine", UniformGrid(last=0.0), 100),
    "dpm_solver_sub_vp": (DPMSolver(), "sub_vp", LogSNRGrid(), 40),
    "ddim_piecewise": (DDIM(1.0), "piecewise_beta", UniformGrid(last=0.0), 200),
    "langevin": (AnnealedLangevin(40), "ve", LogSNRGrid(), 40),
    "euler_maruyama": (EulerMaruyama(), "sub_vp", UniformGrid(last=1e-3), 400),
    "euler_maruyama_ve": (EulerMaruyama(), "ve", UniformGrid(), 400),
    "predictor_corrector": (PredictorCorrector(), "vp_linear", UniformGrid(last=1e-3), 200),
    "heun": (Heun(), "edm", RhoGrid(), 18),
    "heun_churn": (Heun(churn=10.0, churn_min=0.05, churn_max=50.0), "edm", RhoGrid(), 40),
    "heun_time": (Heun("time"), "rectified_flow", UniformGrid(), 40),
    "dpm_solver": (DPMSolver(), "vp_linear", LogSNRGrid(to_zero=True), 20),
    "dpm_solver_cosine": (DPMSolver(), "cosine", UniformGrid(), 100),
    "dpm_solver_learnable": (DPMSolver(), "log_snr_linear", UniformGrid(), 20),
    "dpm_solver_flow": (DPMSolver(), "rectified_flow", LogSNRGrid(), 40),
    "adaptive": (Adaptive(Tolerance(1e-3, 1e-3)), "vp_linear", UniformGrid(), 1),
}


class At:
  """A denoising function that says where the log-variance lies."""

  def __init__(self, function, fraction):
    self.function, self.fraction = function, fraction

  def __call__(self, x, t):
    return self.function(x, t)

  def with_variance(self, x, t):
    return self.function(x, t), jnp.full_like(x, self.fraction)


@functools.cache
def drawn(name):
  sampler, path, grid, num_steps = CASES[name]
  assert isinstance(sampler, Sampler)
  denoise = Counting(TWO.denoise(PATHS[path]))
  out = jax.jit(lambda key: sample(sampler, denoise, PATHS[path], grid, num_steps, key, (NUM, 2)))(KEY)
  jax.effects_barrier()
  return np.asarray(out.x), out.info, denoise.calls


@pytest.mark.fast_cases("ddim")
@pytest.mark.parametrize("name", CASES)
def test_it_finds_mean_and_covariance(name):
  x, info, calls = drawn(name)
  mean, covariance = TWO.moments()
  error = np.sqrt(np.diag(covariance) / NUM)
  assert np.all(np.abs(x.mean(axis=0) - mean) < 4.0 * error + 0.01), (x.mean(axis=0), mean)
  np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.1 * covariance.max())
  assert info["nfe"] == calls


@pytest.mark.slow
def test_learned_variances_between_the_two():
  """Fractions 0 and 1 are the two fixed variances, draw by draw."""
  path, denoise = VPLinear(), GAUSSIAN.denoise(VPLinear())

  @jax.jit
  def draws(key):
    def run(sampler, function):
      return sample(sampler, function, path, UniformGrid(last=0.0), 10, key, (4, 2)).x

    learned = [run(LearnedAncestral(), At(denoise, f)) for f in (0.0, 1.0)]
    return learned, [run(Ancestral("posterior"), denoise), run(Ancestral("forward"), denoise)]

  learned, fixed = draws(KEY)
  np.testing.assert_allclose(learned, fixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sampler", "order", "within"), [
    (DDIM(), 1, 0.02), (Heun(), 2, 1e-3), (DPMSolver(), 2, 1e-3), (Heun("time"), 2, 2e-3)], ids=str)
def test_the_error_falls_with_its_order(sampler, order, within):
  """Of the ODE's end, known for Gaussian data; in float64, where steps stop and noise is left."""
  path = LogSNRLinear(6.0, -6.0)
  with jax.enable_x64(True):
    x = jnp.asarray([[1.3, -0.2], [-0.5, 0.9]])
    truth = moved(path, x, jnp.asarray(1.0), jnp.asarray(0.0))

    @jax.jit
    def errors(x):
      runs = [sampler.run(GAUSSIAN.denoise(path), path, jnp.linspace(1.0, 0.0, num + 1), KEY, x).x for num in (50, 100)]
      return jnp.stack([jnp.abs(run - truth).max() for run in runs])

    coarse, fine = np.asarray(errors(x))
  assert fine < within
  assert 0.85 * 2**order < coarse / fine < 1.25 * 2**order, (coarse, fine)


@pytest.mark.parametrize("sampler", [DDIM(), DDIM(1.0), Ancestral(), DPMSolver(), Heun(), EulerMaruyama(),
                                     PredictorCorrector(DDIM(), 2), AnnealedLangevin(3)], ids=str)
def test_one_step_is_enough_to_run_and_evaluations_are_counted(sampler):
  path = VPLinear()
  denoise = Counting(GAUSSIAN.denoise(path))
  grid = UniformGrid(last=0.1)
  out = jax.jit(lambda key: sample(sampler, denoise, path, grid, 1, key, (3, 2), denoise_last=True))(KEY)
  jax.effects_barrier()
  assert out.info["nfe"] == denoise.calls
  assert np.isfinite(out.x).all()


@pytest.mark.parametrize("sampler", [PredictorCorrector(), AnnealedLangevin(3)], ids=str)
def test_langevin_steps_at_no_noise_leave_what_came_there(sampler):
  """A network may be infinite there."""
  path = VPLinear()

  def denoise(x, t):
    return jnp.where(t[:, None] > 0.0, GAUSSIAN.denoise(path)(x, t), jnp.nan)

  out = jax.jit(lambda key: sample(sampler, denoise, path, UniformGrid(last=0.0), 5, key, (500, 2)))(KEY)
  assert np.abs(np.asarray(out.x).mean(axis=0) - np.asarray(GAUSSIAN.means[0])).max() < 0.2


@pytest.mark.slow
def test_a_trajectory_ends_in_the_sample_and_memory_does_not_grow():
  path = VPLinear()

  def run(num, key):
    return sample(DDIM(), GAUSSIAN.denoise(path), path, UniformGrid(last=0.0), num, key, (2, 2), num_frames=3)

  out = jax.jit(functools.partial(run, 7))(KEY)
  assert out.info["trajectory"].shape == (3, 2, 2)
  np.testing.assert_array_equal(out.info["trajectory"][-1], out.x)
  x = prior_scale(path) * jax.random.normal(jax.random.split(KEY)[0], (2, 2))
  truth = moved(path, x, jnp.asarray(1.0), jnp.asarray(3 / 7))
  assert np.abs(out.info["trajectory"][1] - truth).max() < 0.5  # after four of seven steps
  sizes = [jax.jit(functools.partial(run, num)).lower(KEY).compile().memory_analysis().temp_size_in_bytes
           for num in (10, 1000)]
  assert sizes[1] - sizes[0] <= 1000 * 64, "some numbers for each step, which the times are"


@pytest.mark.slow
def test_an_adaptive_solver_says_when_it_gives_up():
  path = VPLinear()
  out = jax.jit(lambda key: sample(Adaptive(Tolerance(1e-6, 1e-6, 3)), TWO.denoise(path), path, UniformGrid(), 1, key,
                                   (2, 2)))(KEY)
  assert not out.info["solved"]
  assert np.isnan(out.x).all()


@pytest.mark.slow
def test_guidance():
  path, x, t = VPLinear(), jnp.ones((2, 2)), jnp.asarray([0.3, 0.7])
  given, free = GAUSSIAN.denoise(path), TWO.denoise(path)
  guided = Guided(given, free, 3.0)
  np.testing.assert_allclose(guided(x, t), 3.0 * given(x, t) - 2.0 * free(x, t), rtol=1e-5)
  # Guiding the noise is guiding the data.
  level = path.level(t).like(x)

  def noise(function):
    return PREDICTIONS["data"].noise(level, x, function(x, t))

  by_noise = denoiser(PREDICTIONS["noise"], path, lambda x, t: noise(free) + 3.0 * (noise(given) - noise(free)))
  np.testing.assert_allclose(by_noise(x, t), guided(x, t), rtol=1e-4)
  assert sample(DDIM(), guided, path, UniformGrid(), 2, KEY, (2, 2)).info["nfe"] == 4
  assert Guided(given, None, 1.0).cost == 1
  np.testing.assert_array_equal(Guided(given, None, 1.0)(x, t), given(x, t))
  with pytest.raises(ConfigError, match=r"guidance is 2\.0"):
    Guided(given, None, 2.0)


def test_guidance_within_an_interval_and_rescaled():
  path, x = VPLinear(), jnp.asarray([[1.0, -0.5], [1.0, -0.5]])
  t = jnp.asarray([0.1, 0.9])
  level = np.exp(-0.5 * np.asarray(path.log_snr(t)))
  given, free = GAUSSIAN.denoise(path), TWO.denoise(path)
  whole = np.asarray(Guided(given, free, 3.0)(x, t))
  within = Guided(given, free, 3.0, (0.0, float(level.mean())), 0.0, path.log_snr)(x, t)
  np.testing.assert_allclose(within[0], whole[0], rtol=1e-5)  # the lower level alone is guided
  np.testing.assert_allclose(within[1], given(x, t)[1], rtol=1e-5)
  rescaled = np.asarray(Guided(given, free, 3.0, rescale=1.0)(x, t))
  np.testing.assert_allclose(rescaled.std(axis=1), np.asarray(given(x, t)).std(axis=1), rtol=1e-4)
  np.testing.assert_allclose(rescaled / whole, np.repeat((rescaled / whole)[:, :1], 2, axis=1), rtol=1e-4)


@pytest.mark.parametrize(("fields", "message"), [
    ({"scale": 2.0, "interval": (3.0, 1.0)}, r"guidance_interval is \(3.0, 1.0\); it must be two noise levels"),
    ({"scale": 2.0, "rescale": 1.5}, r"guidance_rescale is 1.5; it must be in \[0, 1\]"),
    ({"interval": (0.5, 1.0)}, "but guidance is 1, which is none"),
    ({"scale": float("nan")}, "guidance is nan; it must be finite"),
])
def test_guidance_that_cannot_be(fields, message):
  with pytest.raises(ConfigError, match=message):
    Guidance(**fields)


@pytest.mark.slow
def test_grids():
  edm = PATHS["edm"]
  times = np.asarray(RhoGrid().times(edm, 10))
  ramp = np.arange(10) / 9
  sigmas = (80.0 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80.0 ** (1 / 7))) ** 7
  np.testing.assert_allclose(80.0 * times, [*sigmas, 0.0], rtol=2e-5)
  vp = VPLinear()
  log_snr = np.asarray(vp.log_snr(LogSNRGrid().times(vp, 8)))
  np.testing.assert_allclose(np.diff(log_snr), (log_snr[-1] - log_snr[0]) / 8, rtol=1e-3)
  np.testing.assert_allclose(UniformGrid(last=0.0).times(vp, 4), [1.0, 0.75, 0.5, 0.25, 0.0])
  for choice in (UniformGrid(), LogSNRGrid(), LogSNRGrid(True), RhoGrid(), RhoGrid(to_zero=False)):
    for num in (1, 2, 3):
      times = np.asarray(choice.times(edm, num))
      assert times.shape == (num + 1,) and (np.diff(times) < 0.0).all()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: sample(DDIM(), GAUSSIAN.denoise(VPLinear()), VPLinear(), UniformGrid(), 0, KEY, (1, 2)), "num_steps is 0"),
    (lambda: RhoGrid().times(PATHS["edm"], 0), "num_steps is 0"),
    (lambda: DDIM().run(lambda x, t: x, VPLinear(), jnp.ones(1), KEY, jnp.ones((1, 2))), "at least one step"),
    (lambda: DDIM().run(lambda x, t: x, VPLinear(), jnp.asarray([0.1, 0.9]), KEY, jnp.ones((1, 2))), "fall"),
    (lambda: DDIM().run(lambda x, t: x, VPLinear(), jnp.asarray([0.9, 0.1]), KEY, jnp.ones((1, 2)), 2),
     "num_frames is 2"),
    (lambda: DDIM(1.5), "eta is 1.5"),
    (lambda: Ancestral("upper"), "variance is 'upper'"),
    (lambda: Heun("snr"), "clock is 'snr'"),
    (lambda: Heun(churn=-1.0), "churn is -1.0"),
    (lambda: AnnealedLangevin(0), "steps_per_level is 0"),
    (lambda: PredictorCorrector(num_corrections=0), "num_corrections is 0"),
    (lambda: RhoGrid(0.0), "rho is 0.0"),
])
def test_bad_input(call, message):
  with pytest.raises(ConfigError, match=message):
    call()


@pytest.mark.parametrize("path", ["vp_linear", "ve", "rectified_flow"])
def test_one_step_is_the_denoised_noise(path):
  """The only evaluation is at the path's last time: the mean of the data, as far as nothing but noise is known."""
  for name in SAMPLERS:
    out = sample_by(name, lambda x, t: t[:, None] + 0.0 * x, PATHS[path], jax.random.key(0), (3, 2), num_steps=1)
    np.testing.assert_array_equal(out.x, np.full((3, 2), PATHS[path].ends[1], np.float32))
    assert out.info["nfe"] == 1


@pytest.mark.parametrize("grid", [LogSNRGrid(), RhoGrid()])
def test_times_by_an_infinite_log_snr_are_refused(grid):
  with pytest.raises(ConfigError, match=r"log-SNR is -inf at its end t = 1\.0.*margin"):
    jax.jit(lambda: grid.times(RectifiedFlow(0.0), 4))()


@pytest.mark.fast_cases("vp_linear", "rectified_flow")
@pytest.mark.parametrize("name", ["vp_linear", "cosine", "edm", "rectified_flow", "ve"])
def test_few_steps_between_two_points_stay_near_them(name):
  """The slope of points jumps between them, and is divided by what noise is left: Heun's correction was up to 800."""
  path = PATHS[name]

  def denoise(x, t):
    level = path.level(t).like(x)
    points = jnp.array([-1.0, 1.0])
    total = (level.alpha * 1e-3) ** 2 + level.sigma**2
    off = x[..., None] - level.alpha[..., None] * points
    shares = jax.nn.softmax(-0.5 * jnp.sum(off**2, axis=1, keepdims=True) / total[..., None], axis=-1)
    return jnp.sum(shares * (points + (level.alpha * 1e-6 / total)[..., None] * off), axis=-1)

  for num_steps in (2, 3, 5, 10):
    x = np.asarray(sample_by("heun", denoise, path, KEY, (NUM, 2), num_steps).x)
    assert np.abs(x).max() < 6.0
