"""NADE with a fixed order.

Variants: digits, binarized_mnist; npz for any binary or categorical set (with --config.data.path=...); adult, dna and
mushrooms are npz with binary heads as in the papers and settings chosen on the validation split. On an accelerator add
--config.model.block=32.
"""

import ml_collections

from configs import data
from configs.autoregressive import shared

VARIANTS = {
    "digits": {
        "model": {"hidden": 200, "dropout": 0.3},
        "training": {"num_steps": 2000, "eval_every": 100, "checkpoint_every": 500},
    },
    "binarized_mnist": {
        "optimizer": {"learning_rate": 1e-3},
        "training": {"num_steps": 100_000, "eval_every": 2500, "checkpoint_every": 2500, "steps_per_call": 1,
                     "patience": 0},
        "evaluation": {"batch_size": 1000},
    },
    "npz": {"model": {"hidden": 128, "dropout": 0.2}},
    "adult": {
        "model": {"hidden": 64, "center": True},
        "optimizer": {"learning_rate": 2e-2},
        "training": {"num_steps": 1250, "eval_every": 50, "log_every": 50, "patience": 0},
    },
    "dna": {
        "model": {"hidden": 64, "center": True, "input_dropout": 0.2},
        "optimizer": {"learning_rate": 1e-2},
        "training": {"num_steps": 420, "eval_every": 20, "log_every": 20, "patience": 0},
    },
    "mushrooms": {
        "model": {"hidden": 64, "center": True},
        "optimizer": {"learning_rate": 2e-2},
        "training": {"num_steps": 1000, "eval_every": 50, "log_every": 50, "patience": 0},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = shared.get_config("nade", learning_rate=2e-3)
  config.update(data.choose(variant, VARIANTS))
  return config
