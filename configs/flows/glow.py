"""Glow, on the sets of configs/flows/shared.py."""

import ml_collections

from configs.flows import shared

OWN = {
    "digits": {"model": {"num_steps": 6, "width": 32, "dropout": 0.2}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "glow", OWN)
