"""DDPM: denoising diffusion probabilistic models (Ho et al., arXiv:2006.11239)."""

import dataclasses
import functools
from typing import ClassVar

from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.between import Between
from gdm.diffusion.paths.discrete import linear_betas, require_steps
from gdm.diffusion.paths.path import Path
from gdm.diffusion.paths.variance_preserving import PiecewiseBeta
from gdm.diffusion.times import DiscreteUniform, Times
from gdm.errors import ConfigError
from gdm.model import Params


@dataclasses.dataclass(frozen=True)
class DDPM(Diffusion):
  """T steps of noise, and a network that predicts the noise; the loss is the simple one (equation 14).

  Its bound is of T steps, the first of which is the reconstruction.

  Attributes:
    num_noise_steps: T.
    beta_min, beta_max: T times the first and the last step's beta.
  """

  num_noise_steps: int = 1000
  beta_min: float = 0.1
  beta_max: float = 20.0

  default_sampler: ClassVar[str] = "ancestral"

  def __post_init__(self) -> None:
    require_steps(self.num_noise_steps)
    if self.num_noise_steps < 2:
      raise ConfigError(f"num_noise_steps is {self.num_noise_steps}; it must be at least 2.")
    self._path  # noqa: B018 - checks the betas
    super().__post_init__()

  @functools.cached_property
  def _path(self) -> PiecewiseBeta:
    return PiecewiseBeta(linear_betas(self.num_noise_steps, self.beta_min, self.beta_max))

  @property
  def default_steps(self) -> int:  # type: ignore[override]
    return self.num_noise_steps

  def path(self, params: Params) -> Path:
    return self._path

  def sampling_path(self, params: Params) -> Path:
    return Between(self._path, 1.0 / self.num_noise_steps, 1.0)

  @property
  def times(self) -> Times:
    return DiscreteUniform(self.num_noise_steps)

  @property
  def bound_steps(self) -> int:
    return self.num_noise_steps - 1
