"""Markov chain along the flattened dimensions, with a table per position.

Variants: digits, binarized_mnist, npz and text (with --config.data.path=...), shakespeare, spoken_digits,
digit_sounds; text and sound have one table for all positions.
"""

import ml_collections

from configs import data
from gdm.runs import defaults

# Orders by validation NLL.
VARIANTS = {
    "digits": {},
    "binarized_mnist": {"model": {"order": 8}},
    "npz": {"model": {"order": 5}},
    "text": {"model": {"order": 3, "homogeneous": True}},
    "shakespeare": {"model": {"order": 3, "homogeneous": True}},
    **{name: {"model": {"order": 2, "homogeneous": True}, "evaluation": {"batch_size": 100}}
       for name in ("spoken_digits", "digit_sounds")},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = defaults.get_config("markov")
  config.update(data.choose(variant, VARIANTS))
  return config
