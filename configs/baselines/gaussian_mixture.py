"""Mixture of Gaussians with diagonal or full covariances, by EM.

Variants: toy2d, npz (with --config.data.path=..., continuous data).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "toy2d": {"model": {"num_components": 40}},
    "npz": {"model": {"num_components": 10, "variance_floor": 1e-2}},
}


def get_config(variant: str = "toy2d") -> ml_collections.ConfigDict:
  config = defaults.get_config("gaussian_mixture")
  config.update(data.choose(variant, VARIANTS))
  return config
