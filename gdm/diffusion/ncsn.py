"""NCSN: noise-conditional score networks (Song & Ermon, arXiv:1907.05600 and 2006.09011)."""

from typing import Unpack

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.variance_exploding import VE
from gdm.diffusion.recipes import DiffusionFields
from gdm.diffusion.samplers.grids import UniformGrid
from gdm.diffusion.samplers.langevin import AnnealedLangevin
from gdm.diffusion.samplers.named import TimedSampler
from gdm.diffusion.times import LevelTimes


def ncsn(spec: DataSpec, *, num_levels: int = 50, sigma_min: float = 0.01, sigma_max: float = 20.0,
         matching: str = "denoising", steps_per_level: int = 5, step_size: float = 0.2,
         **common: Unpack[DiffusionFields]) -> Diffusion:
  """Return a score network over a geometric sequence of noise levels, sampled by annealed Langevin dynamics.

  The network gives -sigma times the score, which has about the same size at all levels (arXiv:2006.09011, section 3.3).
  Denoising score matching weighs the score's squared error by sigma^2 (arXiv:1907.05600, equations 5 and 6): it is the
  noise's squared error.

  Example:
    model = ncsn(DataSpec((2,), None), num_levels=10, sigma_max=5.0)

  Args:
    spec: the data.
    num_levels: number of noise levels.
    sigma_min, sigma_max: noise on standardized data; the largest about the largest distance of two examples.
    matching: denoising or sliced score matching, see `sliced_error`.
    steps_per_level: steps of Langevin dynamics at each level in sampling.
    step_size: size of those, over sigma^2.
    common: fields of `Diffusion` that every recipe takes, see `DiffusionFields`.
  """
  checks.at_least("num_levels", num_levels, 2)
  checks.positive("step_size", step_size)
  langevin = TimedSampler(AnnealedLangevin(steps_per_level, step_size), UniformGrid())
  return Diffusion(spec, VE(sigma_min, sigma_max), times=LevelTimes(num_levels), matching=matching,
                   sampler="annealed_langevin", steps=num_levels, samplers_by_name=(("annealed_langevin", langevin),),
                   **common)
