"""What the configs of networks share: how they are trained."""

from collections.abc import Mapping

import ml_collections

from configs import data
from gdm.runs import defaults


def get_config(variant: str, name: str, variants: Mapping[str, dict]) -> ml_collections.ConfigDict:
  """Return the config of the model `name` for one of its variants."""
  return defaults.get_config(name, {
      "optimizer": {"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 100,
                    "weight_decay": 0.01},
      "training": {"num_steps": 2000, "ema_decay": 0.999, "log_every": 100, "eval_every": 500,
                   "checkpoint_every": 500},
  }, data.choose(variant, dict(variants)))
