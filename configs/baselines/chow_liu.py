"""Chow-Liu tree: fitted in one pass over the data.

Variants: digits, binarized_mnist, npz (with --config.data.path=...).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "digits": {},
    "binarized_mnist": {},
    "npz": {},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = defaults.get_config("chow_liu")
  config.update(data.choose(variant, VARIANTS))
  return config
