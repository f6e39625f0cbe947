"""Every dimension on its own: the baseline that any model must beat.

Variants: digits, binarized_mnist, npz and text (with --config.data.path=...), shakespeare, toy2d (Gaussians).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "digits": {},
    "binarized_mnist": {},
    "npz": {},
    "toy2d": {},
    "text": {},
    "shakespeare": {},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = defaults.get_config("independent")
  config.update(data.choose(variant, VARIANTS))
  return config
