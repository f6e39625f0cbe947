"""Samplers by name, each with the times it visits."""

from typing import NamedTuple

from gdm.diffusion.samplers.adaptive import Adaptive
from gdm.diffusion.samplers.ancestral import Ancestral
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.dpm_solver import DPMSolver
from gdm.diffusion.samplers.grids import Grid, LogSNR, Rho, Uniform
from gdm.diffusion.samplers.heun import Heun
from gdm.diffusion.samplers.langevin import AnnealedLangevin
from gdm.diffusion.samplers.sampler import Sampler
from gdm.diffusion.samplers.sde import EulerMaruyama, PredictorCorrector


class Choice(NamedTuple):
  """A sampler and its times."""

  sampler: Sampler
  grid: Grid


SAMPLERS: dict[str, Choice] = {
    "ancestral": Choice(Ancestral(), Uniform()),
    "ddim": Choice(DDIM(), Uniform()),
    "dpm_solver": Choice(DPMSolver(), LogSNR()),
    "heun": Choice(Heun("angle"), Rho(to_zero=False)),
    "euler_maruyama": Choice(EulerMaruyama(), Uniform()),
    "predictor_corrector": Choice(PredictorCorrector(), Uniform()),
    "annealed_langevin": Choice(AnnealedLangevin(), Uniform()),
    "adaptive": Choice(Adaptive(), Uniform()),
}
