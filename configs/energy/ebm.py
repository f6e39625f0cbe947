"""Energy-based model of real numbers.

Variants: two_moons, rings and spirals, densities in the plane; ring, banana and spiral, those of one piece; npz, tables
of real numbers (with --config.data.path=...); digits, dequantized. Another way to train is
--config.model.objective=denoising, say.
"""

import ml_collections

from configs import data
from configs.energy import shared

_PLANE = {
    # Persistent chains cross from one part of a thin curve to another too seldom. On a curve of one piece they do well,
    # unless some start anew: young chains weigh its parts as the base does, not as the model.
    "model": {"objective": "cd", "adjusted": True, "restart": 0.0},
    "evaluation": {"batch_size": 1000},
    "sampling": {"num": 4000},
}

VARIANTS = {
    **{name: {**_PLANE, "data": {"batch_size": 256}}
       for name in ("two_moons", "rings", "spirals", "ring", "banana", "spiral")},
    "npz": {},
    "digits": {
        # Steps that are accepted or not keep chains at temperature 1 in equilibrium, so that the density is that of the
        # samples; unadjusted chains hold together only when they are cold.
        "model": {"network": {"name": "convolutional", "widths": (16, 32, 32)},
                  "num_steps": 30, "adjusted": True, "restart": 0.0, "range_margin": 2.0},
        # No momentum: chains answer at once, and what overshoots drives them out of the data's range.
        "optimizer": {"learning_rate": 3e-4, "b1": 0.0},
        "evaluation": {"batch_size": 300},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_continuous_config("ebm", data.choose(variant, VARIANTS))
