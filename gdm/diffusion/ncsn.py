"""NCSN: noise-conditional score networks (Song & Ermon, arXiv:1907.05600 and 2006.09011)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
from jaxtyping import Array, Float, Key

from gdm.diffusion.diffusion import Diffusion, mean_square
from gdm.diffusion.likelihoods import total
from gdm.diffusion.paths.others import VE
from gdm.diffusion.paths.path import Path, PathSample, expand
from gdm.diffusion.samplers.grids import Uniform
from gdm.diffusion.samplers.langevin import AnnealedLangevin
from gdm.diffusion.samplers.named import SAMPLERS, Choice
from gdm.diffusion.times import Levels, Times
from gdm.errors import ConfigError, nearest
from gdm.model import Params


def denoising(model: Diffusion, params: Params, path: Path, sample: PathSample, context: Array | None,
              key: Key[Array, ""]) -> Float[Array, " batch"]:
  """sigma^2 times the score's squared error given the noise (arXiv:1907.05600, equations 5 and 6), a mean over
  dimensions: the noise's squared error."""
  return Diffusion.errors(model, params, path, sample, context, key)


def sliced(model: Diffusion, params: Params, path: Path, sample: PathSample, context: Array | None,
           key: Key[Array, ""]) -> Float[Array, " batch"]:
  """sigma^2 times (v' J v + |s|^2 / 2) for one direction v, a mean over dimensions: the noise added is not looked at.

  Sliced score matching with reduced variance (Song et al., arXiv:1905.07088, equation 8), at each noise level.
  """
  probe_key, key = jax.random.split(key)
  probe = jax.random.rademacher(probe_key, sample.x.shape, sample.x.dtype)
  sigma = expand(sample.level.sigma, sample.x)

  def score(x):
    return -model.predict(params, path, x, sample.t, context, key) / sigma

  value, moved = jax.jvp(score, (sample.x,), (probe,))
  along = total(probe * moved) / model.spec.num_dims
  return sample.level.sigma**2 * (along + 0.5 * mean_square(value))


OBJECTIVES = {"denoising": denoising, "sliced": sliced}


@dataclasses.dataclass(frozen=True)
class NCSN(Diffusion):
  """A score network over a geometric sequence of noise levels, sampled by annealed Langevin dynamics.

  The network gives -sigma times the score, which has about the same size at all levels (arXiv:2006.09011, section
  3.3).

  Attributes:
    num_levels: how many.
    sigma_min, sigma_max: of the noise on standardized data; the largest about the largest distance of two examples.
    matching: denoising or sliced score matching.
    steps_per_level: of Langevin dynamics in sampling.
    step_size: of those, over sigma^2.
  """

  num_levels: int = 50
  sigma_min: float = 0.01
  sigma_max: float = 20.0
  matching: str = "denoising"
  steps_per_level: int = 5
  step_size: float = 0.2

  default_sampler: ClassVar[str] = "annealed_langevin"

  def __post_init__(self) -> None:
    if self.matching not in OBJECTIVES:
      raise ConfigError(f"matching is {self.matching!r}; {nearest(self.matching, OBJECTIVES)}")
    if self.num_levels < 2:
      raise ConfigError(f"num_levels is {self.num_levels}; it must be at least 2.")
    super().__post_init__()

  @property
  def default_steps(self) -> int:
    return self.num_levels

  def path(self, params: Params) -> Path:
    return VE(self.sigma_min, self.sigma_max)

  def sampling_path(self, params: Params) -> Path:
    return self.path(params)  # its levels are those that were trained

  @property
  def times(self) -> Times:
    return Levels(self.num_levels)

  @property
  def bound_steps(self) -> int:
    return self.num_levels - 1

  @property
  def samplers(self) -> Mapping[str, Choice]:
    return {**SAMPLERS, "annealed_langevin": Choice(AnnealedLangevin(self.steps_per_level, self.step_size), Uniform())}

  def errors(self, params: Params, path: Path, sample: PathSample, context: Array | None,
             key: Key[Array, ""]) -> Float[Array, " batch"]:
    return OBJECTIVES[self.matching](self, params, path, sample, context, key)
