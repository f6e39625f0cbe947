"""Chow-Liu tree: fitted in one pass over the data.

Variants: digits, binarized_mnist, npz (with --config.data.path=...).
"""

import ml_collections

from configs import base, data

VARIANTS = {
    "digits": {},
    "binarized_mnist": {},
    "npz": {},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "chow_liu", "alpha": 1.0}
  config.update(data.choose(variant, VARIANTS))
  return config
