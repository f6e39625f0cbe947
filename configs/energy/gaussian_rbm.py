"""Restricted Boltzmann machine on real data.

Variants: red_wine, which is npz with folds (with --config.data.path=...#fold=1); npz for any real data (with
--config.data.path=...).
"""

import ml_collections

from configs import data
from configs.energy import shared

VARIANTS = {
    "red_wine": {  # 144 validation examples of the first fold: -13.14 nats, exact
        "model": {"num_steps": 5},
        "optimizer": {"learning_rate": 5e-3},
        "training": {"num_steps": 6000, "eval_every": 1000, "checkpoint_every": 2000},
    },
    "npz": {},
}


def get_config(variant: str = "npz") -> ml_collections.ConfigDict:
  config = shared.get_config("gaussian_rbm")
  config.update({"model": {"num_hidden": 16, "init_scale": 0.1}})
  config.update(data.choose(variant, VARIANTS))
  return config
