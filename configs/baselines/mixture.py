"""Mixture of products of Bernoullis or categoricals, by EM.

Variants: digits, binarized_mnist, npz (with --config.data.path=...).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "digits": {"model": {"num_components": 30}},
    "binarized_mnist": {"evaluation": {"batch_size": 1000},
                        "model": {"num_components": 200, "num_restarts": 2, "num_iterations": 100}},
    "npz": {"model": {"num_components": 100}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = defaults.get_config("mixture")
  config.update(data.choose(variant, VARIANTS))
  return config
