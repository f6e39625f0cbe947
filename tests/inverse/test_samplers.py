"""Posterior samplers against posteriors in closed form."""

import functools

import jax
import numpy as np
import pytest
from helpers.exact_denoisers import grid_of_25, normal

from gdm.diffusion.paths.rectified_flow import RectifiedFlow
from gdm.diffusion.paths.variance_preserving import Cosine
from gdm.inverse.operators import mask, projection
from gdm.inverse.problem import posed
from gdm.inverse.samplers.named import SAMPLERS
from gdm.inverse.samplers.steps import times

MATRIX = np.random.default_rng(5).normal(size=(2, 4)) / 2
NUM = 2000


@functools.cache
def drawn(name, isotropic, noise, path=None, num=NUM, **settings):
  """Draws, and the mean and covariance of the posterior of a normal prior."""
  prior = normal(4, eigenvalues=np.ones(4) if isotropic else None)
  y = MATRIX @ prior.sample(3, 1)[0]
  denoiser = prior.denoiser(path)
  problem = posed(denoiser, projection((4,), MATRIX), y[None].astype(np.float32), noise)
  call = jax.jit(lambda problem, key: SAMPLERS[name].function(denoiser, problem, key, num, **settings))
  out = call(problem, jax.random.key(0))
  return np.asarray(out.x[:, 0]), *prior.posterior(MATRIX, y, noise).moments(), y, out.info


def errors(x, mean, covariance):
  """The error of the mean in deviations, of the covariance relative to its norm."""
  return (np.abs(x.mean(axis=0) - mean).max() / np.sqrt(np.diag(covariance)).max(),
          np.linalg.norm(np.cov(x.T) - covariance) / np.linalg.norm(covariance))


@pytest.mark.fast_cases("0.0")
@pytest.mark.parametrize("noise", [0.3, 0.0])
def test_particles_draw_from_the_posterior_of_any_normal_prior(noise):
  x, mean, covariance, _, info = drawn("particles", False, noise, num_steps=300, num_particles=NUM)
  of_mean, of_covariance = errors(x, mean, covariance)
  assert of_mean < 0.08 and of_covariance < 0.1  # 300 steps leave a few percent of variance out
  assert info["effective_share"].shape == (301, 1) and 0.0 < info["least_effective_share"][0] <= 1.0


def test_twisted_particles_draw_from_the_posterior_too_and_lose_fewer():
  x, mean, covariance, _, info = drawn("twisted", False, 0.3, num_steps=300, num_particles=NUM)
  of_mean, of_covariance = errors(x, mean, covariance)
  assert of_mean < 0.08 and of_covariance < 0.12
  other = drawn("particles", False, 0.3, num_steps=300, num_particles=NUM)[-1]
  assert np.mean(info["effective_share"]) > np.mean(other["effective_share"])


@pytest.mark.fast_cases("rectified_flow")
@pytest.mark.parametrize("path", [None, Cosine(), RectifiedFlow()], ids=["edm", "cosine", "rectified_flow"])
def test_pigdm_is_exact_for_standard_normal_data(path):
  for noise in (0.3, 0.0):
    x, mean, covariance, *_ = drawn("pigdm", True, noise, path, num_steps=400)
    of_mean, of_covariance = errors(x, mean, covariance)
    assert of_mean < 0.07 and of_covariance < 0.12


# Measured errors of the others with noise 0.3 (projection, whose default takes it as exact, with none), for the table
# in docs/guides/inverse.md: each bound leaves the seed's error.
APPROXIMATE = {"projection": (0.0, 0.6, 0.3), "replacement": (0.0, 0.6, 0.3), "repaint": (0.0, 0.2, 0.35),
               "ddrm": (0.3, 0.5, 0.6), "dps": (0.3, 0.8, 0.6)}


@pytest.mark.fast_cases("ddrm", "replacement")
@pytest.mark.parametrize("name", APPROXIMATE)
def test_the_others_are_near_and_not_exact(name):
  noise, most_mean, most_covariance = APPROXIMATE[name]
  x, mean, covariance, *_ = drawn(name, False, noise)
  of_mean, of_covariance = errors(x, mean, covariance)
  assert of_mean < most_mean and of_covariance < most_covariance
  assert max(of_mean, of_covariance) > 0.08  # else it belongs among the exact ones


@pytest.mark.fast_cases("projection", "pigdm")
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("dps", "twisted")])
def test_measurements_without_noise_are_kept(name):
  x, _, _, y, _ = drawn(name, False, 0.0, num=64, num_steps=20)
  np.testing.assert_allclose(x @ MATRIX.T, np.broadcast_to(y, (64, 2)), atol=2e-3)


@pytest.mark.fast_cases("projection", "dps", "pigdm")
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "twisted"])
def test_a_full_mask_returns_the_input_and_an_empty_one_the_prior(name):
  prior = normal(3)
  denoiser, y = prior.denoiser(), prior.sample(1, 2).astype(np.float32)
  function = SAMPLERS[name].function
  full = posed(denoiser, mask(np.ones(3, bool)), y, 0.0)
  steps = {"num_steps": 100} if name != "particles" else {"num_steps": 100, "num_particles": 2000}
  out = jax.jit(lambda problem, key: function(denoiser, problem, key, 8, **steps))(full, jax.random.key(0))
  near = 1.0 if name == "dps" else 1e-3  # its steps have one length, however small the error
  np.testing.assert_allclose(out.x, np.broadcast_to(y, (8, 2, 3)), atol=near)
  empty = posed(denoiser, mask(np.zeros(3, bool)), np.zeros((1, 0), np.float32), 0.0)
  out = jax.jit(lambda problem, key: function(denoiser, problem, key, 2000, **steps))(empty, jax.random.key(0))
  of_mean, of_covariance = errors(np.asarray(out.x[:, 0]), *prior.moments())
  # All noise but a share is fresh in each of DDRM's steps, so that they leave more variance out.
  assert of_mean < 0.1 and of_covariance < (0.4 if name == "ddrm" else 0.25)


def test_dims_with_scales_of_their_own_are_measured_in_their_units():
  """As tables of real numbers are standardized: the operator then acts on scaled values."""
  prior = normal(4)
  scale, centre = np.array([1.0, 2.0, 0.5, 3.0], np.float32), np.array([0.0, 1.0, -2.0, 0.5], np.float32)
  denoiser = prior.denoiser()
  denoiser = type(denoiser)(**{**vars(denoiser), "scale": scale, "centre": centre})
  x = prior.sample(3, 1) * scale + centre
  operator = projection((4,), MATRIX)
  y = (x @ MATRIX.T).astype(np.float32)
  out = jax.jit(lambda problem, key: SAMPLERS["pigdm"].function(denoiser, problem, key, 2000, num_steps=200))(
      posed(denoiser, operator, y, 0.2), jax.random.key(0))
  scaled = MATRIX * scale
  mean, covariance = prior.posterior(scaled, y[0] - MATRIX @ centre, 0.2).moments()
  of_mean, of_covariance = errors(np.asarray(out.x[:, 0]), mean, covariance)
  assert of_mean < 0.2 and of_covariance < 0.3


@pytest.mark.slow
def test_ranks_of_truths_among_particles_are_uniform():
  """Simulation-based calibration: truth and measurement from the prior, draws given the measurement. Ranks of one
  coordinate that is not measured are uniform; of replacement, which draws too widely, they are not."""
  prior = grid_of_25(2, seed=1)
  num, matrix = 256, np.array([[0.6, 0.3]])
  truths = prior.sample(2, num)
  y = truths @ matrix.T + np.random.default_rng(3).normal(size=(num, 1))
  denoiser = prior.denoiser(scale=12.0)
  problem = posed(denoiser, projection((2,), matrix), y.astype(np.float32), 1.0)
  call = jax.jit(lambda problem, key: SAMPLERS["particles"].function(denoiser, problem, key, 7, num_steps=100,
                                                                     num_particles=128))
  draws = 12.0 * np.asarray(call(problem, jax.random.key(0)).x)
  rng = np.random.default_rng(4)
  for dim in range(2):
    ranks = np.sum(draws[:, :, dim] < truths[:, dim], axis=0)
    counts = np.bincount(ranks, minlength=8)
    expected = num / 8
    assert np.sum((counts - expected) ** 2 / expected) < 24.3  # 99.9 % of chi^2 with 7 degrees of freedom
  wrong = draws + 12.0 * rng.normal(size=draws.shape)  # the test notices draws that are too wide
  counts = np.bincount(np.sum(wrong[:, :, 1] < truths[:, 1], axis=0), minlength=8)
  assert np.sum((counts - num / 8) ** 2 / (num / 8)) > 24.3


def test_times_fall_on_every_path():
  for path in (None, Cosine(), RectifiedFlow()):
    grid = np.asarray(times(normal(2).denoiser(path), 30))
    assert grid.shape == (31,) and np.all(np.diff(grid) < 0.0)
