"""Improved DDPM: a cosine schedule and learned variances (Nichol & Dhariwal, arXiv:2102.09672)."""

from typing import Unpack

from gdm.dataspec import DataSpec
from gdm.diffusion.bound import Decoder
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.variance_preserving import Cosine
from gdm.diffusion.predictions import PREDICTIONS, Prediction
from gdm.diffusion.recipes import DiffusionFields, discrete_path, find, find_decoder, find_weighting, steps_of_noise
from gdm.diffusion.variance import LearnedVariance
from gdm.diffusion.weightings import Weighting


def improved_ddpm(spec: DataSpec, *, num_noise_steps: int = 1000, offset: float = 0.008, vlb_weight: float = 1e-3,
                  prediction: str | Prediction = "noise", weighting: str | Weighting = "simple",
                  decoder: str | Decoder = "auto", **common: Unpack[DiffusionFields]) -> Diffusion:
  """Return an Improved DDPM: the network predicts the noise and the variance of each step (equation 15).

  The loss is the simple one plus `vlb_weight` T times the bound's term (equation 16), see `LearnedVariance`.

  Example:
    model = improved_ddpm(DataSpec((8, 8, 1), 17), num_noise_steps=200)

  Args:
    spec: the data.
    num_noise_steps: T.
    offset: s of the cosine schedule (equation 17), whose betas are at most 0.999.
    vlb_weight: lambda, for a bound in bits/dim.
    prediction, weighting: names or objects; the paper's are noise and simple.
    decoder: p(data | x) of the first step, see `find_decoder`.
    common: fields of `Diffusion` that every recipe takes, see `DiffusionFields`.
  """
  times = steps_of_noise(num_noise_steps)
  path = discrete_path("path", Cosine(offset), num_noise_steps)
  return Diffusion(spec, path, find("prediction", prediction, PREDICTIONS),
                   find_weighting(weighting, path), times, sampler="ancestral",
                   steps=num_noise_steps, decoder=find_decoder(decoder, spec, has_steps=True),
                   variance=LearnedVariance(num_noise_steps, vlb_weight), **common)
