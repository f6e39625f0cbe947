"""What the configs of image models share: the data sets, and how models are trained on them.

Variants: digits, chosen on the validation split; binarized_mnist and cifar10, for an accelerator; images, and npz, for
any images (with --config.data.path=...).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "digits": {},
    # For an accelerator.
    "binarized_mnist": {
        "training": {"num_steps": 20_000, "eval_every": 1000, "checkpoint_every": 5000, "ema_decay": 0.9995},
    },
    "cifar10": {
        "data": {"batch_size": 64},
        "training": {"num_steps": 100_000, "eval_every": 5000, "checkpoint_every": 5000, "ema_decay": 0.9995},
        "evaluation": {"batch_size": 100},
    },
    "images": {},
    "npz": {},
}


def get_config(variant: str, name: str, own: dict[str, dict] | None = None) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, and for some variants its `own` settings."""
  config = defaults.get_config(name, {
      "optimizer": {"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100,
                    "clip_norm": 1.0, "weight_decay": 0.01},
      "training": {"num_steps": 3000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 250,
                   "checkpoint_every": 1000},
  })
  config.update(data.choose(variant, VARIANTS))
  config.update((own or {}).get(variant, {}))
  return config
