"""MADE.

Variants: digits, binarized_mnist; npz for any binary or categorical set (with --config.data.path=...), binary one-hot
codes by blocks; adult, dna and mushrooms are npz with binary heads as in the papers, adult_blocks and dna_blocks by
blocks; red_wine is npz of real numbers with folds (with --config.data.path=...#fold=1). Settings were chosen on the
validation split. An ensemble over orderings is made_orderings.py.
"""

import ml_collections

from configs import data
from configs.autoregressive import shared

VARIANTS = {
    "digits": {
        "model": {"network": {"dropout": 0.5}, "center": True, "num_orderings": 4, "input_dropout": 0.15},
        "optimizer": {"learning_rate": 2e-3},
        "training": {"num_steps": 1800, "eval_every": 100, "checkpoint_every": 600, "patience": 0},
    },
    "binarized_mnist": {
        "model": {"network": {"hidden": (4000,), "direct": True, "dropout": 0.3}},
        "training": {"num_steps": 10_000, "steps_per_call": 1, "eval_every": 500, "checkpoint_every": 5000,
                     "patience": 0},
        "evaluation": {"batch_size": 1000},
    },
    "npz": {
        "model": {"network": {"hidden": (500, 500), "direct": True, "dropout": 0.5}, "center": True, "num_orderings": 8,
                  "input_dropout": 0.15},
        "optimizer": {"learning_rate": 2e-3},
        # What a few thousand rows need against overfitting keeps one network from learning many rows.
        "large": {"rows": 8000, "model": {"network": {"dropout": 0.2}, "num_orderings": 1, "input_dropout": 0.0}},
    },
    "adult": {
        "model": {"network": {"activation": "sigmoid", "direct": True, "dropout": 0.5}, "center": True},
        "optimizer": {"learning_rate": 1e-2},
        "training": {"num_steps": 3000, "eval_every": 100, "ema_decay": 0.9995, "patience": 0},
    },
    "dna": {
        "model": {"network": {"hidden": (1000,), "activation": "sigmoid", "direct": True, "dropout": 0.3},
                  "center": True, "input_dropout": 0.2},
        "optimizer": {"learning_rate": 1e-2},
        "training": {"num_steps": 1400, "eval_every": 100, "patience": 0},
    },
    "mushrooms": {
        "model": {"network": {"hidden": (1000,), "activation": "sigmoid", "direct": True, "dropout": 0.3},
                  "center": True},
        "optimizer": {"learning_rate": 1e-2},
        "training": {"num_steps": 2000, "eval_every": 100, "patience": 0},
    },
    "adult_blocks": {
        "model": {"network": {"hidden": (500, 500), "direct": True, "dropout": 0.5}, "ordering": "random",
                  "center": True, "input_dropout": 0.1},
        "optimizer": {"learning_rate": 2e-3},
        "training": {"num_steps": 2000, "eval_every": 100, "ema_decay": 0.9995, "patience": 0},
    },
    "dna_blocks": {
        "model": {"network": {"direct": True, "dropout": 0.5}, "ordering": "random", "num_orderings": 16,
                  "center": True, "input_dropout": 0.5},
        "optimizer": {"learning_rate": 5e-3},
        "training": {"num_steps": 2100, "eval_every": 100, "patience": 0},
    },
    "red_wine": {
        "model": {"network": {"hidden": (500, 500), "dropout": 0.5}},
        "training": {"num_steps": 3000, "steps_per_call": 50, "eval_every": 100, "patience": 0},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = shared.get_config("made")
  config.update({"search": {"model": {"network": {"dropout": (0.0, 0.1, 0.3, 0.5)}, "num_orderings": (1, 8)},
                            "optimizer": {"learning_rate": (5e-4, 2e-3)}}})
  config.update(data.choose(variant, VARIANTS))
  return config
