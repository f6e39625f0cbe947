"""DDPM: denoising diffusion probabilistic models (Ho et al., arXiv:2006.11239)."""

import dataclasses

from gdm.diffusion.discrete_time import DiscreteTime
from gdm.diffusion.paths.discrete import linear_betas
from gdm.diffusion.paths.variance_preserving import PiecewiseBeta


@dataclasses.dataclass(frozen=True)
class DDPM(DiscreteTime):
  """The network predicts the noise; the loss is the simple one (equation 14).

  Attributes:
    beta_min, beta_max: T times the first and the last step's beta.
  """

  beta_min: float = 0.1
  beta_max: float = 20.0

  @property
  def whole_path(self) -> PiecewiseBeta:
    return PiecewiseBeta(linear_betas(self.num_noise_steps, self.beta_min, self.beta_max))
