"""Integer discrete flow.

Variants: digits; images, any images of integers (with --config.data.path=...); mnist and cifar10, for an accelerator.
"""

import ml_collections

from configs import data
from configs.flows import shared
from gdm.runs import defaults

OF_INTEGERS = ("digits", "images", "mnist", "cifar10")
OWN = {
    "digits": {"model": {"num_steps": 4, "width": 32, "dropout": 0.2}, "optimizer": {"learning_rate": 4e-3},
               "training": {"num_steps": 1000, "eval_every": 100}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  config = defaults.get_config("integer_flow", shared.TRAINING)
  config.update({"search": {"model": {"dropout": (0.0, 0.2, 0.5)}, "optimizer": {"learning_rate": (5e-4, 2e-3)}}})
  config.update(data.choose(variant, {name: shared.VARIANTS[name] for name in OF_INTEGERS}))
  config.update(OWN.get(variant, {}))
  return config
