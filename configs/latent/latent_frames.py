"""Pictures by a VAE, and their latents by a mixture-density network: a world model.

Variant: pictures, what experiments.record --observations=pictures writes (with --config.data.path=FILE.npz).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "pictures": {
        "data": {"batch_size": 16, "init_examples": 128},
        "model": {
            "frame": {"name": "vae", "latent_dims": 8, "encoder": {"name": "mlp", "hidden": (128, 128)},
                      "decoder": {"name": "mlp", "hidden": (128, 128)}},
            "latents": {"name": "recurrent_frames", "network": {"cell": "gru", "width": 128},
                        "frame": {"name": "rnade", "hidden": 64, "mixture": {"size": 5}}},
        },
    },
}


def get_config(variant: str = "pictures") -> ml_collections.ConfigDict:
  return defaults.get_config("latent_frames", {
      "optimizer": {"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 100,
                    "clip_norm": 10.0},
      "training": {"num_steps": 2500, "steps_per_call": 5, "ema_decay": 0.99, "log_every": 100, "eval_every": 250,
                   "checkpoint_every": 1000, "patience": 0},
      "evaluation": {"batch_size": 40},
  }, data.choose(variant, VARIANTS))
