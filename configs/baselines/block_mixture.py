"""Mixture of products over blocks of mutually exclusive columns, by EM with its number of components found.

Variants: npz (with --config.data.path=...), binarized_digits, binarized_mnist.
"""

import ml_collections

from configs import base, data

VARIANTS = {
    "binarized_digits": {},
    "binarized_mnist": {"evaluation": {"batch_size": 1000},
                        "model": {"num_components": 500, "num_runs": 1, "num_iterations": 100, "tolerance": 1e-2}},
    "npz": {},
}


def get_config(variant: str = "binarized_digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {"name": "block_mixture", "num_components": 200, "num_runs": 8, "alpha": 0.1, "min_count": 5.0,
                  "learn_iterations": 60, "seed_weight": 0.5, "fallback": 1e-5, "num_iterations": 300,
                  "tolerance": 1e-5}
  config.update(data.choose(variant, VARIANTS))
  return config
