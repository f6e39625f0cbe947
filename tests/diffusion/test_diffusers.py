"""Steps of DDPM, DDIM, DPM-Solver++ and Heun, and EDM's preconditioning, against diffusers' schedulers.

fixtures/diffusers.npz was made by make_fixtures.py.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.diffusion.paths.discrete import linear_betas
from gdm.diffusion.paths.variance_exploding import EDMPath
from gdm.diffusion.paths.variance_preserving import PiecewiseBeta
from gdm.diffusion.preconditioning import Preconditioning
from gdm.diffusion.predictions import PREDICTIONS, denoiser
from gdm.diffusion.samplers.ancestral import Ancestral
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.dpm_solver import DPMSolver
from gdm.diffusion.samplers.heun import Heun
from gdm.diffusion.samplers.sampler import SamplerStep

PATH = PiecewiseBeta(linear_betas(1000))


@functools.cache
def fixtures():
  with np.load(pathlib.Path(__file__).parent / "fixtures" / "diffusers.npz", allow_pickle=False) as file:
    return dict(file)


def known(x, t):
  """The function of make_fixtures.py: their timestep i is the time (i + 1) / 1000."""
  return jnp.tanh(x) * (0.5 + (1000.0 * t[:, None] - 1.0) / 2000.0)


@pytest.mark.fast_cases("ddim-sampler2")
@pytest.mark.parametrize(("name", "sampler"), [
    ("ddpm_small", Ancestral("posterior")), ("ddpm_large", Ancestral("forward")), ("ddim", DDIM()),
    ("ddim_eta", DDIM(0.7)), ("dpm_solver", DPMSolver())])
def test_each_step(name, sampler, monkeypatch):
  """Each of 20 steps, from where diffusers' step before it came to, with the noise that it drew."""
  data = {key.split("/")[1]: value for key, value in fixtures().items() if key.startswith(f"{name}/")}
  with jax.enable_x64(True):
    denoise = denoiser(PREDICTIONS["noise"], PATH, known)

    @jax.jit
    def step(x, memory, now, noise):
      monkeypatch.setattr(jax.random, "normal", lambda key, shape, dtype: noise)
      return sampler.step(denoise, PATH, jax.random.key(0), x, memory, SamplerStep(*now, 20))

    times = np.append((data["t"] + 1.0) / 1000.0, 0.0)
    before, memory = fixtures()["start"], sampler.memory(jnp.asarray(fixtures()["start"]))
    for i, after in enumerate(data["x"]):
      noise = data["noise"][i] if "noise" in data else np.zeros_like(before)
      x, memory = step(before, memory, (times[i], times[i + 1], i), noise)
      np.testing.assert_allclose(x, after, rtol=1e-5, atol=1e-5, err_msg=f"step {i}")
      before = after


@pytest.mark.slow
def test_heuns_steps():
  """In x / alpha as theirs, all 20 steps in one run."""
  sigma, start, xs = (fixtures()[f"heun/{key}"] for key in ("sigma", "start", "x"))
  with jax.enable_x64(True):
    times = jnp.append(PATH.time(-2.0 * jnp.log(sigma[:-1])), 0.0)
    denoise = denoiser(PREDICTIONS["noise"], PATH, lambda x, t: 0.7 * jnp.tanh(x))
    out = jax.jit(lambda times, x: Heun().run(denoise, PATH, times, jax.random.key(0), x, num_frames=20))(
        times, PATH.alpha(times[0]) * start)
    np.testing.assert_allclose(out.info["trajectory"] / PATH.alpha(times[1:])[:, None, None], xs, rtol=1e-5, atol=1e-5)


def test_edms_euler_steps_and_preconditioning():
  sigma, start, xs = (fixtures()[f"edm_euler/{key}"] for key in ("sigma", "start", "x"))
  path, around = EDMPath(), Preconditioning(0.5)
  with jax.enable_x64(True):
    def denoise(x, t):
      sigma = path.sigma(t)[:, None]
      return around.data(sigma, x, jnp.tanh(around.coefficients(sigma).into * x))

    out = jax.jit(lambda times, x: DDIM().run(denoise, path, times, jax.random.key(0), x, num_frames=20))(
        jnp.asarray(sigma / 80.0), jnp.asarray(start))
  np.testing.assert_allclose(out.info["trajectory"], xs, rtol=1e-5, atol=1e-5)
