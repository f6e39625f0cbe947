"""What the configs of sequence models share: the data sets, and how models are trained on them."""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "digits": {},
    # nanoGPT's CPU setting: batches of 12 windows of 64 characters, 2,000 steps.
    "shakespeare": {
        "data": {"batch_size": 12},
        "optimizer": {"learning_rate": 3e-3, "weight_decay": 0.1},
        "training": {"num_steps": 2000, "eval_every": 1000, "checkpoint_every": 1000, "ema_decay": 0.0},
    },
    "text": {
        "data": {"batch_size": 32},
        "optimizer": {"learning_rate": 2e-3, "weight_decay": 0.1},
    },
}


def get_config(variant: str, name: str, own: dict[str, dict] | None = None) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, and for some variants, or new ones, its `own` settings."""
  config = defaults.get_config(name, {
      "optimizer": {"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100,
                    "clip_norm": 1.0, "weight_decay": 0.01},
      "training": {"num_steps": 3000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 250,
                   "checkpoint_every": 1000},
  })
  own = own or {}
  config.update(data.choose(variant, {**{name: {} for name in own}, **VARIANTS}))
  config.update(own.get(variant, {}))
  return config
