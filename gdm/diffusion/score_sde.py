"""Score-based models by stochastic differential equations (Song et al., arXiv:2011.13456)."""

from typing import Unpack

from gdm.dataspec import DataSpec
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.predictions import PREDICTIONS, Prediction
from gdm.diffusion.recipes import PATHS, DiffusionFields, find, find_weighting
from gdm.diffusion.times import TIMES, Times
from gdm.diffusion.weightings import Likelihood, Weighting


def score_sde(spec: DataSpec, *, path: str | NoisePath = "vp_linear", prediction: str | Prediction = "noise",
              weighting: str | Weighting = "simple", times: str | Times = "auto",
              **common: Unpack[DiffusionFields]) -> Diffusion:
  """Return a score model in continuous time, sampled by reversing its SDE; the network gives -sigma times the score.

  Example:
    model = score_sde(DataSpec((2,), None), path="sub_vp", weighting="likelihood")

  Args:
    spec: the data.
    path: the SDE: vp_linear (equation 33), ve (equation 30) or sub_vp (equation 29), or another path.
    prediction: name or object; noise is -sigma times the score.
    weighting: simple (the noise's squared error), likelihood (g^2 times the score's, Song et al., arXiv:2101.09258,
      theorem 1), or another one.
    times: auto is uniform, and for the weighting likelihood vlb_importance, which makes its estimate vary least
      (arXiv:2101.09258, section 4.3).
    common: fields of `Diffusion` that every recipe takes, see `DiffusionFields`.
  """
  path = find("path", path, PATHS)
  weighting = find_weighting(weighting, path)
  if times == "auto":
    times = "vlb_importance" if isinstance(weighting, Likelihood) else "uniform"
  return Diffusion(spec, path, find("prediction", prediction, PREDICTIONS), weighting, find("times", times, TIMES),
                   sampler="predictor_corrector", steps=500, **common)
