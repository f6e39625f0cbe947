"""MAF, on the sets of configs/flows/shared.py."""

import ml_collections

from configs.flows import shared

OWN = {
    # With the base that makes it MAF MoG (section 4.2 of the paper); chosen on the validation part of fold 1.
    "red_wine": {"model": {"base": "mixture", "hidden": (100, 100), "dropout": 0.4}},
}


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "maf", OWN)
