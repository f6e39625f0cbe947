"""VDM. For the variants see configs/diffusion/shared.py."""

import ml_collections

from configs.diffusion import shared

CHANGES = {
    # Chosen on the validation split.
    "digits": {
        "model": {"network": {"dropout": 0.3}, "parametrization": "levels", "log_snr_max": 8.3},
        "optimizer": {"weight_decay": 0.05},
        "training": {"eval_every": 250},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "vdm", CHANGES)
