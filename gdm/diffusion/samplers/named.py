"""Samplers by name, each with the times it visits."""

from typing import NamedTuple

from gdm.diffusion.samplers.adaptive import Adaptive
from gdm.diffusion.samplers.ancestral import Ancestral
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.dpm_solver import DPMSolver
from gdm.diffusion.samplers.grids import LogSNRGrid, RhoGrid, TimeGrid, UniformGrid
from gdm.diffusion.samplers.heun import Heun
from gdm.diffusion.samplers.langevin import AnnealedLangevin
from gdm.diffusion.samplers.sampler import Sampler
from gdm.diffusion.samplers.sde import EulerMaruyama, PredictorCorrector


class TimedSampler(NamedTuple):
  """A sampler and its times."""

  sampler: Sampler
  grid: TimeGrid


SAMPLERS: dict[str, TimedSampler] = {
    "ancestral": TimedSampler(Ancestral(), UniformGrid()),
    "ddim": TimedSampler(DDIM(), UniformGrid()),
    "dpm_solver": TimedSampler(DPMSolver(), LogSNRGrid()),
    "heun": TimedSampler(Heun("angle"), RhoGrid(to_zero=False)),
    "euler_maruyama": TimedSampler(EulerMaruyama(), UniformGrid()),
    "predictor_corrector": TimedSampler(PredictorCorrector(), UniformGrid()),
    "annealed_langevin": TimedSampler(AnnealedLangevin(), UniformGrid()),
    "adaptive": TimedSampler(Adaptive(), UniformGrid()),
}
