"""EDM: preconditioned denoising (Karras et al., arXiv:2206.00364)."""

from typing import Unpack

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.inputs import NetworkInputs
from gdm.diffusion.paths.variance_exploding import EDMPath
from gdm.diffusion.predictions import Prediction
from gdm.diffusion.recipes import DiffusionFields, find, find_weighting, predictions
from gdm.diffusion.samplers.grids import RhoGrid
from gdm.diffusion.samplers.named import SAMPLERS
from gdm.diffusion.times import LogNormalTimes
from gdm.diffusion.weightings import Weighting

# Times evenly spaced in sigma would spend nearly all steps where only noise is left (equation 5).
BY_RHO = tuple((name, choice._replace(grid=RhoGrid(to_zero=False))) for name, choice in SAMPLERS.items())


def edm(spec: DataSpec, *, sigma_min: float = 0.002, sigma_max: float = 80.0, sigma_data: float = 0.5,
        log_sigma_mean: float = -1.2, log_sigma_std: float = 1.2, prediction: str | Prediction = "preconditioned",
        weighting: str | Weighting = "edm", **common: Unpack[DiffusionFields]) -> Diffusion:
  """Return an EDM, whose network takes and gives numbers of variance one, at the levels that matter (table 1).

  Example:
    model = edm(DataSpec((2,), None), sigma_data=1.0)
    params, carry = model.init(key, {"x": jax.random.normal(key, (16, 2))})
    x = model.sample(params, carry, key, num=16, num_steps=5).x

  Args:
    spec: the data.
    sigma_min, sigma_max: the noise to sample between.
    sigma_data: standard deviation of the values: 0.5 of images in [-1, 1], 1 of standardized numbers.
    log_sigma_mean, log_sigma_std: of the noise levels in training; their density is a part of the weighting.
    prediction, weighting: names or objects; the paper's are preconditioned (equation 7) and edm.
    common: fields of `Diffusion` that every recipe takes, see `DiffusionFields`.
  """
  checks.positive("log_sigma_std", log_sigma_std)
  path = EDMPath(sigma_min, sigma_max)
  return Diffusion(
      spec, path, find("prediction", prediction, predictions(sigma_data)),
      find_weighting(weighting, path, sigma_data=sigma_data), LogNormalTimes(log_sigma_mean, log_sigma_std),
      sampler="heun", steps=18, samplers_by_name=BY_RHO, inputs=NetworkInputs(sigma_data, "log_snr"), **common)
