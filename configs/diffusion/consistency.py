"""Consistency models, which sample in one step or a few. For the variants see configs/diffusion/shared.py."""

import ml_collections

from configs.diffusion import shared

CHANGES = {
    # Levels are doubled four times within the training's first 2,000 steps.
    "digits": {"model": {"double_every": 500, "network": {"dropout": 0.1}}},
    # The paper's, for as many training steps (arXiv:2310.14189, table 1).
    "cifar10": {"model": {"last_levels": 1280, "double_every": 50_000, "network": {"dropout": 0.3}}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "consistency", CHANGES)
