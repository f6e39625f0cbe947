"""RNADE with a fixed order, on real data.

Variants: npz for any set of real numbers (with --config.data.path=...), standardized; red_wine is npz with folds (with
--config.data.path=...#fold=1) and settings chosen on the validation split; two_moons is the 2-D toy density;
worlds is what experiments.record --decisions writes (with --config.data.path=FILE.npz), real actions given
observations.
"""

import ml_collections

from configs import data
from configs.autoregressive import shared

VARIANTS = {
    "npz": {"model": {"hidden": 200, "dropout": 0.3}},
    "red_wine": {
        "model": {"heads": "logistic", "hidden": 300, "dropout": 0.5},
        "training": {"num_steps": 2500, "steps_per_call": 50, "eval_every": 100, "patience": 0},
    },
    "worlds": {
        "data": {"batch_size": 200},
        "model": {"hidden": 64, "mixture": {"size": 5}},
        "optimizer": {"learning_rate": 5e-3},
        "training": {"num_steps": 2000, "steps_per_call": 50, "eval_every": 200, "checkpoint_every": 1000,
                     "patience": 4},
    },
    "two_moons": {
        "model": {"hidden": 100},
        "training": {"num_steps": 3000, "eval_every": 500},
    },
}


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  config = shared.get_config("rnade")
  config.update(data.choose(variant, VARIANTS))
  return config
