"""Masked diffusion. For the variants see configs/discrete_diffusion/shared.py."""

import ml_collections

from configs.discrete_diffusion import shared


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "masked")
