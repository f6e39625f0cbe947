"""MADE.

Variants: digits, binarized_mnist, npz (with --config.data.path=...: any binary or categorical set), and adult, dna,
mushrooms: the paper's sets (npz too) with its binary heads.
"""

import ml_collections

from configs import base

VARIANTS = {
    "digits": {"model": {"hidden": (500,), "num_orderings": 4, "dropout": 0.2, "input_dropout": 0.1},
               "training": {"num_steps": 3000, "log_every": 100, "eval_every": 100, "checkpoint_every": 500,
                            "patience": 5}},
    "binarized_mnist": {"data": {"name": "tfds:binarized_mnist", "transforms": ()},
                        "model": {"hidden": (4000,), "dropout": 0.3},
                        "optimizer": {"schedule": "cosine"},
                        "training": {"num_steps": 10000, "steps_per_call": 1, "eval_every": 500,
                                     "checkpoint_every": 1000, "patience": 0},
                        "evaluation": {"batch_size": 1000}},
    "npz": {},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.data.update({"name": "npz", "transforms": ("blocks",)})
  config.model = {"name": "made", "ordering": "natural", "ordering_seed": 0, "heads": "auto", "fallback": 1e-5,
                  "center": False, "output_bias": "marginals", "hidden": (500, 500), "activation": "relu",
                  "direct": True, "num_orderings": 1, "num_masks": 1, "degrees": "even", "mask_seed": 0,
                  "dropout": 0.5, "input_dropout": 0.1, "weight_init": "glorot_uniform"}
  config.training.update({"num_steps": 30000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 250,
                          "eval_every": 250, "checkpoint_every": 2500, "patience": 12})
  config.update(base.choose(variant, VARIANTS, __name__))
  if variant == "digits":
    config.data.update({"name": "digits", "transforms": ()})
  return config
