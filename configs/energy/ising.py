"""Fully visible Boltzmann machine on binary data.

Variants: digits (binarized); npz for any binary set (with --config.data.path=...).
"""

import ml_collections

from configs import base
from configs.energy import shared

VARIANTS = {
    "digits": {"data": {"name": "digits", "transforms": ("binarize",)}},
    "npz": {"data": {"name": "npz"}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = shared.get_config("ising", sampler="sites")
  config.update(base.choose(variant, VARIANTS))
  return config
