"""One untied network per variable; for data of up to a few hundred dimensions.

Variants: digits, binarized_mnist, npz for any binary or categorical set (with --config.data.path=...).
"""

import ml_collections

from configs import data
from configs.autoregressive import shared

VARIANTS = {
    "digits": {
        "model": {"dropout": 0.3, "input_dropout": 0.2},
        "training": {"num_steps": 2000, "eval_every": 100, "checkpoint_every": 500},
    },
    "binarized_mnist": {
        "model": {"dropout": 0.2},
        "training": {"num_steps": 25_000, "eval_every": 1000, "checkpoint_every": 5000, "steps_per_call": 1},
        "evaluation": {"batch_size": 1000},
    },
    "npz": {"model": {"dropout": 0.2}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = shared.get_config("mlp")
  config.update(data.choose(variant, VARIANTS))
  return config
