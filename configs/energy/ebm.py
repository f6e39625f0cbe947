"""Energy-based model of real numbers.

Variants: two_moons, rings and spirals, densities in the plane; ring, banana and spiral, those of one piece; npz, tables
of real numbers (with --config.data.path=...); digits, dequantized. Another way to train is
--config.model.objective=denoising, say.
"""

import ml_collections

from configs import base

_PLANE = {
    # Persistent chains cross from one part of a thin curve to another too seldom. On a curve of one piece they do well,
    # unless some start anew: young chains weigh its parts as the base does, not as the model.
    "model": {"objective": "contrastive", "num_steps": 20, "adjusted": True, "restart": 0.0},
    "evaluation": {"batch_size": 1000},
    "sampling": {"num": 4000},
}

VARIANTS = {
    **{name: {**_PLANE, "data": {"name": f"toy2d:{name}#train=50000", "batch_size": 256}}
       for name in ("two_moons", "rings", "spirals", "ring", "banana", "spiral")},
    "npz": {"data": {"name": "npz", "transforms": ("standardize",)}},
    "digits": {
        "data": {"name": "digits"},
        # Cold chains: those of temperature 1 take many more steps to forget where they began.
        "model": {"hidden": (16, 32, 32), "noise": 0.1, "energy_penalty": 0.01, "range_margin": 2.0},
        # No momentum: chains answer at once, and what overshoots drives them out of the data's range.
        "optimizer": {"learning_rate": 1e-4, "b1": 0.0},
        "training": {"num_steps": 5000},
    },
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {
      "name": "ebm",
      "network": "auto",
      "hidden": (128, 128),
      "spectral": False,
      "reference": 1.0,
      "objective": "persistent",
      "num_steps": 20,
      "step_size": 0.01,
      "noise": 1.0,
      "adjusted": False,
      "restart": 0.05,
      "chain_shards": 8,
      "chains_per_shard": 64,
      "range_margin": 1.0,
      "gap_limit": 1000.0,
      "energy_penalty": 0.0,
      "kl_weight": 0.0,
      "denoising_scale": 0.1,
      "normalizer": "auto",
      "num_temperatures": 200,
      "num_chains": 256,
      "hmc_step_size": 0.2,
      "num_leapfrog": 4,
  }
  config.update({
      "optimizer": {"schedule": "linear", "learning_rate": 1e-3, "clip_norm": 10.0},
      "training": {"num_steps": 5000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 1000,
                   "checkpoint_every": 1000},
  })
  config.update(base.choose(variant, VARIANTS))
  return config
