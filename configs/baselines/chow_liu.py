"""Chow-Liu tree: fitted in one pass over the data.

Variants: digits, binarized_mnist, npz (with --config.data.path=...).
"""

import ml_collections

from configs import base

VARIANTS = {
    "digits": {"data": {"name": "digits"}},
    "binarized_mnist": {"data": {"name": "tfds:binarized_mnist"}},
    "npz": {"data": {"name": "npz"}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "chow_liu", "alpha": 1.0}
  config.update(base.choose(variant, VARIANTS))
  return config
