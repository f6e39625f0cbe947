"""Mixture of Gaussians with diagonal or full covariances, by EM.

Variants: toy2d, npz (with --config.data.path=..., continuous data).
"""

import ml_collections

from configs import base, data

VARIANTS = {
    "toy2d": {"model": {"num_components": 40}},
    "npz": {"model": {"num_components": 10, "variance_floor": 1e-2}},
}


def get_config(variant: str = "toy2d") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "gaussian_mixture", "num_components": 20, "covariance": "full", "variance_floor": 1e-3,
                  "alpha": 1.0, "num_restarts": 4, "restart_iterations": 10, "num_iterations": 200, "tolerance": 1e-5}
  config.update(data.choose(variant, VARIANTS))
  return config
