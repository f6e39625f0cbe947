"""Markov chain along the flattened dimensions, with a table per position.

Variants: digits, binarized_mnist, npz and text (with --config.data.path=...), shakespeare; text has one table for all
positions.
"""

import ml_collections

from configs import base, data

# Orders by validation NLL.
VARIANTS = {
    "digits": {"model": {"order": 1}},
    "binarized_mnist": {"model": {"order": 8}},
    "npz": {"model": {"order": 5}},
    "text": {"model": {"order": 3, "homogeneous": True}},
    "shakespeare": {"model": {"order": 3, "homogeneous": True}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "markov", "order": 1, "homogeneous": False, "alpha": 1.0}
  config.update(data.choose(variant, VARIANTS))
  return config
