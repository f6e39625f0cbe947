"""Mixture of products over blocks of mutually exclusive columns, by EM with its number of components found.

Variants: npz (with --config.data.path=...), binarized_digits, binarized_mnist.
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "binarized_digits": {},
    "binarized_mnist": {"evaluation": {"batch_size": 1000},
                        "model": {"num_components": 500, "num_runs": 1, "num_iterations": 100, "tolerance": 1e-2}},
    "npz": {},
}


def get_config(variant: str = "binarized_digits") -> ml_collections.ConfigDict:
  config = defaults.get_config("block_mixture")
  config.update(data.choose(variant, VARIANTS))
  return config
