"""Every dimension on its own: the baseline that any model must beat.

Variants: digits, binarized_mnist, npz (with --config.data.path=...), toy2d (Gaussians).
"""

import ml_collections

from configs import base

VARIANTS = {
    "digits": {"data": {"name": "digits"}},
    "binarized_mnist": {"data": {"name": "tfds:binarized_mnist"}},
    "npz": {"data": {"name": "npz"}},
    "toy2d": {"data": {"name": "toy2d:two_moons"}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "independent", "alpha": 1.0, "variance_floor": 1e-6}
  config.update(base.choose(variant, VARIANTS))
  return config
