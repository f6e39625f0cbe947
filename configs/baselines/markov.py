"""Markov chain along the flattened dimensions, with a table per position.

Variants: digits, binarized_mnist, npz and text (with --config.data.path=...); text has one table for all positions.
"""

import ml_collections

from configs import base

# Orders by validation NLL.
VARIANTS = {
    "digits": {"data": {"name": "digits"}, "model": {"order": 1}},
    "binarized_mnist": {"data": {"name": "tfds:binarized_mnist"}, "model": {"order": 8}},
    "npz": {"data": {"name": "npz"}, "model": {"order": 5}},
    "text": {"data": {"name": "text"}, "model": {"order": 3, "homogeneous": True}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "markov", "order": 1, "homogeneous": False, "alpha": 1.0}
  config.update(base.choose(variant, VARIANTS))
  return config
