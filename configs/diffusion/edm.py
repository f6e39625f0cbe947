"""EDM. For the variants see configs/diffusion/shared.py."""

import ml_collections

from configs.diffusion import shared


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "edm", {**shared.CAPTIONS, **shared.SPECTROGRAMS})
