"""Samplers by name, each with the times it visits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gdm import checks
from gdm.diffusion.paths.path import NoisePath, prior_scale
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.adaptive import Adaptive
from gdm.diffusion.samplers.ancestral import Ancestral
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.dpm_solver import DPMSolver
from gdm.diffusion.samplers.dpm_solver_3 import DPMSolver3, SDEDPMSolver
from gdm.diffusion.samplers.grids import LogSNRGrid, RhoGrid, TimeGrid, UniformGrid
from gdm.diffusion.samplers.heun import Heun
from gdm.diffusion.samplers.langevin import AnnealedLangevin
from gdm.diffusion.samplers.sampler import Sampler, cost, sample
from gdm.diffusion.samplers.sde import EulerMaruyama, PredictorCorrector
from gdm.diffusion.samplers.unipc import UniPC
from gdm.model import Samples


class TimedSampler(NamedTuple):
  """A sampler and its times."""

  sampler: Sampler
  grid: TimeGrid


def sample_by(name: str, denoise: Denoise, path: NoisePath, key: Key[Array, ""], shape: tuple[int, ...],
              num_steps: int) -> Samples:
  """Draw samples by any denoiser, as one of one's own, and any of the samplers.

  Example:
    path = VPLinear()
    # alpha x is the mean of the data given x_t where they are standard normal.
    samples = sample_by("heun", lambda x, t: path.alpha(t)[:, None] * x, path, key, (16, 4), num_steps=10)

  Args:
    name: one of `SAMPLERS`.
    denoise: (x [num, *event], times [num]) -> the prediction of x_0, the mean of the data given x.
    path: how noise was added.
    key: of the draws.
    shape: of the samples, [num, *event].
    num_steps: steps, the last of which takes the denoised x; the sampler adaptive takes as many as its tolerance asks.

  Raise ConfigError for an unknown name, or no step.
  """
  checks.one_of("sampler", name, SAMPLERS)
  checks.at_least("num_steps", num_steps, 1)
  choice = SAMPLERS[name]
  if num_steps == 1:
    x = prior_scale(path) * jax.random.normal(key, shape)
    return Samples(denoise(x, jnp.full(shape[0], path.ends[1], x.dtype)), {"nfe": cost(denoise)})
  return sample(choice.sampler, denoise, path, choice.grid, num_steps - 1, key, shape, denoise_last=True)


SAMPLERS: dict[str, TimedSampler] = {
    "ancestral": TimedSampler(Ancestral(), UniformGrid()),
    "ddim": TimedSampler(DDIM(), UniformGrid()),
    "dpm_solver": TimedSampler(DPMSolver(), LogSNRGrid()),
    "dpm_solver_3": TimedSampler(DPMSolver3(), LogSNRGrid()),
    "sde_dpm_solver": TimedSampler(SDEDPMSolver(), LogSNRGrid()),
    "unipc": TimedSampler(UniPC(), LogSNRGrid()),
    "heun": TimedSampler(Heun("angle"), RhoGrid(to_zero=False)),
    "euler_maruyama": TimedSampler(EulerMaruyama(), UniformGrid()),
    "predictor_corrector": TimedSampler(PredictorCorrector(), UniformGrid()),
    "annealed_langevin": TimedSampler(AnnealedLangevin(), UniformGrid()),
    "adaptive": TimedSampler(Adaptive(), UniformGrid()),
}

# Grids by name, of any sampler and path; karras is evenly spaced in (sigma / alpha)^(1 / 7).
GRIDS: dict[str, TimeGrid] = {"uniform": UniformGrid(), "log_snr": LogSNRGrid(), "karras": RhoGrid(to_zero=False)}
