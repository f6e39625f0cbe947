"""Fully visible Boltzmann machine on binary data.

Variants: binarized_digits; npz for any binary set (with --config.data.path=...).
"""

import ml_collections

from configs import data
from configs.energy import shared

VARIANTS = {
    "binarized_digits": {},
    "npz": {},
}


def get_config(variant: str = "binarized_digits") -> ml_collections.ConfigDict:
  config = shared.get_config("ising")
  config.update(data.choose(variant, VARIANTS))
  return config
