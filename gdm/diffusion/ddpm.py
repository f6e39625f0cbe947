"""DDPM: denoising diffusion probabilistic models (Ho et al., arXiv:2006.11239)."""

from typing import Unpack

from gdm.dataspec import DataSpec
from gdm.diffusion.bound import Decoder
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.path import NoisePath
from gdm.diffusion.paths.variance_preserving import VPLinear
from gdm.diffusion.predictions import PREDICTIONS, Prediction
from gdm.diffusion.recipes import (
  PATHS,
  DiffusionFields,
  discrete_path,
  find,
  find_decoder,
  find_weighting,
  steps_of_noise,
)
from gdm.diffusion.weightings import Weighting
from gdm.errors import ConfigError

BETA_MIN, BETA_MAX = 0.1, 20.0  # 1e-4 and 0.02 of 1,000 steps (section 4)


def ddpm(spec: DataSpec, *, num_noise_steps: int = 1000, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX,
         path: str | NoisePath = "vp_linear", prediction: str | Prediction = "noise",
         weighting: str | Weighting = "simple", decoder: str | Decoder = "auto",
         **common: Unpack[DiffusionFields]) -> Diffusion:
  """Return a DDPM: T steps of noise, a network that predicts the noise, and the simple loss (equation 14).

  Example:
    model = ddpm(spec, path="cosine", prediction="v", weighting="min_snr", network=UNet(width=64))

  Args:
    spec: the data.
    num_noise_steps: T.
    beta_min, beta_max: T times the first and the last step's beta, along the path vp_linear.
    path: variance-preserving path that the steps follow.
    prediction, weighting: names or objects; the paper's are noise and simple.
    decoder: p(data | x) of the first step, see `find_decoder`.
    common: fields of `Diffusion` that every recipe takes, see `DiffusionFields`.
  """
  times = steps_of_noise(num_noise_steps)
  if path == "vp_linear":
    path = VPLinear(beta_min, beta_max)
  elif (beta_min, beta_max) != (BETA_MIN, BETA_MAX):
    raise ConfigError(f"beta_min is {beta_min} and beta_max {beta_max}, which are of the path 'vp_linear', but path is "
                      f"{path!r}; leave them out.")
  steps = discrete_path("path", find("path", path, PATHS), num_noise_steps)
  return Diffusion(spec, steps, find("prediction", prediction, PREDICTIONS),
                   find_weighting(weighting, steps), times, sampler="ancestral",
                   steps=num_noise_steps, decoder=find_decoder(decoder, spec, has_steps=True), **common)
