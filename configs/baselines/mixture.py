"""Mixture of products of Bernoullis or categoricals, by EM.

Variants: digits, binarized_mnist, npz (with --config.data.path=...).
"""

import ml_collections

from configs import base, data

VARIANTS = {
    "digits": {"model": {"num_components": 30}},
    "binarized_mnist": {"evaluation": {"batch_size": 1000},
                        "model": {"num_components": 200, "num_restarts": 2, "num_iterations": 100}},
    "npz": {"model": {"num_components": 100}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "mixture", "num_components": 50, "alpha": 1.0, "seed_weight": 0.5, "num_restarts": 4,
                  "restart_iterations": 10, "num_iterations": 200, "tolerance": 1e-4}
  config.update(data.choose(variant, VARIANTS))
  return config
