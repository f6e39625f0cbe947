"""Neural spline flow, autoregressive, on the sets of configs/flows/shared.py.

Besides: worlds, what experiments.record --decisions writes (with --config.data.path=FILE.npz), real actions given
observations.
"""

import ml_collections

from configs.flows import shared

OWN = {
    # Chosen on the validation part of fold 1.
    "red_wine": {"model": {"num_layers": 3, "hidden": (200, 200), "dropout": 0.5}},
    "worlds": {"data": {"batch_size": 200}, "model": {"num_layers": 2},
               "training": {"num_steps": 2000, "steps_per_call": 50, "eval_every": 200, "patience": 4}},
}


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "spline_autoregressive", OWN)
