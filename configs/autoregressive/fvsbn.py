"""Fully visible sigmoid belief network.

Variants: digits, binarized_mnist; npz for any binary or categorical set (with --config.data.path=...); adult, dna and
mushrooms are npz with binary heads as in the papers and settings chosen on the validation split.
"""

import ml_collections

from configs import data
from configs.autoregressive import shared

VARIANTS = {
    "digits": {
        "model": {"input_dropout": 0.2},
        "training": {"num_steps": 2000, "eval_every": 100, "checkpoint_every": 500},
    },
    "binarized_mnist": {
        "model": {"ordering": "random", "center": True},
        "optimizer": {"name": "adamw", "learning_rate": 3e-3, "weight_decay": 0.02},
        "training": {"num_steps": 10_000, "ema_decay": 0.9995, "eval_every": 500, "checkpoint_every": 5000,
                     "patience": 0},
        "evaluation": {"batch_size": 1000},
    },
    "npz": {},
    "adult": {
        "data": {"batch_size": 50},
        "model": {"output_bias": "zeros"},
        "optimizer": {"learning_rate": 1e-2},
        "training": {"num_steps": 10_000, "patience": 0},
    },
    "dna": {
        "model": {"input_dropout": 0.1},
        "optimizer": {"learning_rate": 1e-2},
        "training": {"num_steps": 1400, "eval_every": 100, "patience": 0},
    },
    "mushrooms": {
        "data": {"batch_size": 50},
        "model": {"center": True},
        "optimizer": {"learning_rate": 2e-2},
        "training": {"num_steps": 8000, "patience": 0},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = shared.get_config("fvsbn", learning_rate=5e-3)
  config.update(data.choose(variant, VARIANTS))
  return config
