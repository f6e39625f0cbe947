"""One untied network per variable; for data of up to a few hundred dimensions.

Variants: digits, binarized_mnist, npz for any binary or categorical set (with --config.data.path=...).
"""

import ml_collections

from configs import base

VARIANTS = {
    "digits": {
        "data": {"name": "digits"},
        "model": {"dropout": 0.3, "input_dropout": 0.2},
        "training": {"num_steps": 2000, "eval_every": 100, "checkpoint_every": 500},
    },
    "binarized_mnist": {
        "data": {"name": "tfds:binarized_mnist"},
        "training": {"num_steps": 25_000, "eval_every": 1000, "checkpoint_every": 5000, "steps_per_call": 1},
        "evaluation": {"batch_size": 1000},
    },
    "npz": {"data": {"name": "npz", "transforms": ("blocks",)}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  config = base.get_config()
  config.model = {
      "name": "mlp",
      "ordering": "natural",
      "ordering_seed": 0,
      "heads": "auto",
      "fallback": 1e-5,
      "center": False,
      "input_dropout": 0.0,
      "ordered": True,
      "output_bias": "marginals",
      "hidden": (16,),
      "activation": "relu",
      "dropout": 0.2,
      "weight_init": "glorot_uniform",
  }
  config.optimizer.update({"schedule": "cosine"})
  config.training.update({
      "num_steps": 20_000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 250,
      "checkpoint_every": 5000, "patience": 12,
  })
  config.update(base.choose(variant, VARIANTS))
  return config
