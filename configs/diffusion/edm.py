"""EDM. For the variants see configs/diffusion/shared.py.

Besides: worlds, what experiments.record --decisions writes (with --config.data.path=FILE.npz), real actions given
observations: a diffusion policy (arXiv:2303.04137).
"""

import ml_collections

from configs.diffusion import shared

WORLDS = {"worlds": {
    "data": {"batch_size": 200},
    "model": {"network": {"name": "mlp"}, "sigma_data": 1.0},  # actions are standardized
    "training": {"num_steps": 3000, "steps_per_call": 50, "eval_every": 300, "patience": 4}}}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "edm", {**shared.CAPTIONS, **shared.SPECTROGRAMS, **WORLDS})
