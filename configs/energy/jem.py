"""Joint energy model: a classifier that is a density of examples too, and draws them class by class.

Variants: digits, dequantized; npz, tables of real numbers with labels (with --config.data.path=...).
"""

import ml_collections

from configs import data
from configs.energy import shared

VARIANTS = {
    "npz": {},
    "digits": {
        # Long steps, accepted or not: chains that keep up with the energy at temperature 1.
        "model": {"network": {"hidden": (256, 256)}, "num_steps": 30, "step_size": 0.04, "adjusted": True,
                  "restart": 0.02, "range_margin": 2.0},
        # No momentum: chains answer at once, and what overshoots drives them out of the data's range.
        "optimizer": {"learning_rate": 5e-4, "b1": 0.0},
        "training": {"num_steps": 6000},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_continuous_config("jem", data.choose(variant, VARIANTS))
