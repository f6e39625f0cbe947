"""Residual flow, on the sets of configs/flows/shared.py."""

import ml_collections

from configs.flows import shared


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "residual_flow")
