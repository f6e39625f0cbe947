"""Perceptron classifier.

Variants: digits; mnist; images and npz, any images and tables with labels (with --config.data.path=...).
"""

import ml_collections

from configs.discriminative import shared

_LONG = {"model": {"network": {"hidden": (512, 512), "dropout": 0.3, "batch_norm": True}},
         "training": {"num_steps": 10_000, "eval_every": 1000, "checkpoint_every": 1000}}

VARIANTS = {
    "digits": {},
    "mnist": _LONG,
    "images": _LONG,
    "npz": {"training": {"steps_per_call": 10}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "mlp_classifier", VARIANTS)
