"""EDM: preconditioned denoising (Karras et al., arXiv:2206.00364)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Array, Float

from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths import others
from gdm.diffusion.paths.path import Path, normalized_log_snr
from gdm.diffusion.preconditioning import Preconditioned
from gdm.diffusion.predictions import Prediction
from gdm.diffusion.samplers.grids import Rho
from gdm.diffusion.samplers.named import SAMPLERS, Choice
from gdm.diffusion.times import LogNormal, Times
from gdm.diffusion.weightings import EDMWeighting, Weighting
from gdm.model import Params


@dataclasses.dataclass(frozen=True)
class EDM(Diffusion):
  """A denoiser whose network sees and gives numbers of variance one, at noise levels that matter (table 1).

  Attributes:
    sigma_min, sigma_max: the noise to sample between.
    sigma_data: standard deviation of the values: 0.5 of images in [-1, 1], 1 of standardized numbers.
    log_sigma_mean, log_sigma_std: of the noise levels seen in training.
  """

  sigma_min: float = 0.002
  sigma_max: float = 80.0
  sigma_data: float = 0.5
  log_sigma_mean: float = -1.2
  log_sigma_std: float = 1.2

  default_sampler: ClassVar[str] = "heun"
  divides_by_density: ClassVar[bool] = False  # the density of times is a part of EDM's weighting

  def __post_init__(self) -> None:
    _ = self.path({}), self.prediction, self.times  # they check their fields
    super().__post_init__()

  @property
  def default_steps(self) -> int:
    return 18

  def path(self, params: Params) -> Path:
    return others.EDM(self.sigma_min, self.sigma_max)

  @property
  def prediction(self) -> Prediction:
    return Preconditioned(self.sigma_data)

  @property
  def weighting(self) -> Weighting:
    return EDMWeighting(self.sigma_data)

  @property
  def times(self) -> Times:
    return LogNormal(self.log_sigma_mean, self.log_sigma_std)

  @property
  def input_sigma(self) -> float:
    return self.sigma_data

  @property
  def samplers(self) -> Mapping[str, Choice]:
    # Times evenly spaced in sigma would spend nearly all steps where only noise is left.
    return {name: choice._replace(grid=Rho(to_zero=False)) for name, choice in SAMPLERS.items()}

  def network_time(self, path: Path, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return normalized_log_snr(path, t)
