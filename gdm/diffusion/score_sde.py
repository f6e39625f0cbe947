"""Score-based models by stochastic differential equations (Song et al., arXiv:2011.13456)."""

import dataclasses
from typing import ClassVar

from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.named import PATHS
from gdm.diffusion.paths.path import Path
from gdm.diffusion.times import TIMES, Times
from gdm.diffusion.weightings import WEIGHTINGS, Weighting
from gdm.errors import ConfigError, nearest
from gdm.model import Params

SDES = {"vp": "vp_linear", "ve": "ve", "sub_vp": "sub_vp"}
# The weighting, and the times that make its estimate vary least (Song et al., arXiv:2101.09258, section 4.3).
LOSSES = {"simple": ("simple", "uniform"), "likelihood": ("likelihood", "vlb_importance")}


@dataclasses.dataclass(frozen=True)
class ScoreSDE(Diffusion):
  """The score of data noised by an SDE, sampled by reversing it; the network gives -sigma times the score.

  Attributes:
    sde: vp, ve or sub_vp.
    weight: simple (the noise's squared error) or likelihood (g^2 times the score's, at times drawn for it).
  """

  sde: str = "vp"
  weight: str = "simple"

  default_sampler: ClassVar[str] = "predictor_corrector"

  def __post_init__(self) -> None:
    for name, known in (("sde", SDES), ("weight", LOSSES)):
      if getattr(self, name) not in known:
        raise ConfigError(f"{name} is {getattr(self, name)!r}; {nearest(getattr(self, name), known)}")
    super().__post_init__()

  @property
  def default_steps(self) -> int:
    return 500

  def path(self, params: Params) -> Path:
    return PATHS[SDES[self.sde]]()

  @property
  def weighting(self) -> Weighting:
    return WEIGHTINGS[LOSSES[self.weight][0]]()

  @property
  def times(self) -> Times:
    return TIMES[LOSSES[self.weight][1]]()
