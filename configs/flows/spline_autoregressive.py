"""Neural spline flow, autoregressive, on the sets of configs/flows/shared.py."""

import ml_collections

from configs.flows import shared

OWN = {
    # Chosen on the validation part of fold 1.
    "red_wine": {"model": {"num_layers": 3, "hidden": (200, 200), "dropout": 0.5}},
}


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "spline_autoregressive", OWN)
