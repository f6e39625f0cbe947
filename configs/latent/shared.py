"""What the configs of this family share: the data sets, and how they are trained."""

from collections.abc import Mapping

import ml_collections

from configs import data
from gdm.runs import defaults

_CONVOLUTIONAL = {"encoder": {"name": "convolutional"}, "decoder": {"name": "convolutional"}}
# Steps of convolutions are written out: a CPU takes their gradients in loops many times as long.
_UNROLLED = {"steps_per_call": 1, "unroll_call": False}

VARIANTS = {
    # 1,297 images: small networks, dropout, and few numbers for each pixel; chosen on the validation split.
    "digits": {"model": {"latent_dims": 16, "encoder": {"hidden": (256, 256), "dropout": 0.2},
                         "decoder": {"hidden": (256, 256), "dropout": 0.2}},
               "training": {"num_steps": 4000}},
    "binarized_mnist": {"model": {"latent_dims": 40},
                        "training": {"num_steps": 50_000, "eval_every": 2500, "checkpoint_every": 2500}},
    "mnist": {"model": {"latent_dims": 40, **_CONVOLUTIONAL},
              "training": {"num_steps": 50_000, "eval_every": 2500, "checkpoint_every": 2500, **_UNROLLED}},
    # Any images of integers: with --config.data.path=FILE.
    "images": {"model": {**_CONVOLUTIONAL},
               "training": {"num_steps": 20_000, "eval_every": 1000, "checkpoint_every": 1000, **_UNROLLED}},
    # Any table: with --config.data.path=FILE.
    "npz": {"model": {"latent_dims": 8}, "training": {"num_steps": 5000}},
}


# What VAEs make of the digits' 17 levels.
DIGITS = {"digits": {"model": {"output": {"name": "logistic_mixture", "size": 3}}}}


def get_config(variant: str, name: str, own: Mapping[str, dict] | None = None) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, and for some variants, or new ones, its `own` settings."""
  own = own or {}
  return defaults.get_config(name, {
      "optimizer": {"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "clip_norm": 50.0},
      "training": {"num_steps": 10_000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 500, "eval_every": 500,
                   "checkpoint_every": 1000},
      "evaluation": {"num_samples": 20},
  }, data.choose(variant, {**{name: {} for name in own}, **VARIANTS}), own.get(variant, {}))
