"""Full table of a small space: images are shrunk to 4x4 binary pixels, 65,536 states.

Variants: digits, binarized_mnist, npz (with --config.data.path=..., for sets of few dimensions).
"""

import ml_collections

from configs import base

VARIANTS = {
    "digits": {"data": {"name": "digits", "transforms": ("resize:4", "binarize")}},
    "binarized_mnist": {"data": {"name": "tfds:binarized_mnist", "transforms": ("resize:4",)}},
    "npz": {"data": {"name": "npz"}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "table", "alpha": 1.0, "max_states": 2**20}
  config.update(base.choose(variant, VARIANTS))
  return config
