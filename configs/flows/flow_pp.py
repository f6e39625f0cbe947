"""Flow++, on the sets of configs/flows/shared.py."""

import ml_collections

from configs.flows import shared

OWN = {
    "digits": {"model": {"width": 32, "num_blocks": 1, "dropout": 0.3}, "training": {"num_steps": 2000}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "flow_pp", OWN)
