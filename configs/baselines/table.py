"""Full table of a small space: images are shrunk to 4x4 binary pixels, 65,536 states.

Variants: digits_4x4, binarized_mnist_4x4, npz (with --config.data.path=..., for sets of few dimensions).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "digits_4x4": {},
    "binarized_mnist_4x4": {},
    "npz": {},
}


def get_config(variant: str = "digits_4x4") -> ml_collections.ConfigDict:
  config = defaults.get_config("table")
  config.update(data.choose(variant, VARIANTS))
  return config
