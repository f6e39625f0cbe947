"""Full table of a small space: images are shrunk to 4x4 binary pixels, 65,536 states.

Variants: digits_4x4, binarized_mnist_4x4, npz (with --config.data.path=..., for sets of few dimensions).
"""

import ml_collections

from configs import base, data

VARIANTS = {
    "digits_4x4": {},
    "binarized_mnist_4x4": {},
    "npz": {},
}


def get_config(variant: str = "digits_4x4") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "table", "alpha": 1.0, "max_states": 2**20}
  config.update(data.choose(variant, VARIANTS))
  return config
