"""NICE, on the sets of configs/flows/shared.py."""

import ml_collections

from configs.flows import shared

OWN = {
    # Beginning as a shrunken Gaussian, which the paper's logistic base of three times the variance cannot be.
    "npz": {"model": {"base": "normal"}},
}


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "nice", OWN)
