"""What the configs of this family share: the data sets, and how they are trained.

Variants: two_moons, eight_gaussians and rings, densities in the plane; npz and red_wine, tables of real numbers, and
images, any images of integers (with --config.data.path=...); digits; mnist and cifar10, for an accelerator.
"""

from collections.abc import Mapping

import ml_collections

from configs import data
from gdm.runs import defaults

TRAINING = {
    "optimizer": {"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "clip_norm": 5.0},
    "training": {"num_steps": 5000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 250,
                 "checkpoint_every": 1000},
}
_IMAGES = {"optimizer": {"warmup_steps": 100, "clip_norm": 1.0}, "evaluation": {"num_draws": 1}}

VARIANTS = {
    # Densities in the plane that are known.
    **{name: {"data": {"batch_size": 256}, "evaluation": {"batch_size": 1000}, "sampling": {"num": 4000}}
       for name in ("two_moons", "eight_gaussians", "rings")},
    # Any set of real numbers: with --config.data.path=FILE.
    "npz": {
        "model": {"noise": 1.0, "whiten": True},
        "optimizer": {"warmup_steps": 200},
        "training": {"eval_every": 100},
        # Validated often at first, when the flow is still near a shrunken Gaussian. Rectified
        # conditioners grow without end beyond the data, where few rows hold them: the mean score of a test split was
        # 11,138 nats below the Gaussian's. Those by tanh are bounded.
        "small": {"rows": 2000, "model": {"activation": "tanh"},
                  "optimizer": {"learning_rate": 5e-4, "weight_decay": 0.1},
                  "training": {"num_steps": 2000, "eval_every": 20, "checkpoint_every": 1000}},
    },
    # With --config.data.path=FILE#fold=1.
    "red_wine": {
        "model": {"noise": 1.0},
        "training": {"num_steps": 2500, "eval_every": 100},
    },
    "digits": {**_IMAGES, "training": {"num_steps": 1500}},
    # Any images of integers: with --config.data.path=FILE.
    "images": {**_IMAGES, "training": {"num_steps": 20_000, "eval_every": 1000}},
    # For an accelerator.
    "mnist": {**_IMAGES, "data": {"batch_size": 128},
              "training": {"num_steps": 100_000, "eval_every": 5000, "checkpoint_every": 5000}},
    "cifar10": {**_IMAGES, "data": {"batch_size": 64},
                "training": {"num_steps": 200_000, "eval_every": 10_000, "checkpoint_every": 10_000},
                "evaluation": {"batch_size": 100}},
}


def get_config(variant: str, name: str, own: Mapping[str, dict] | None = None) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, and for some variants, or new ones, its `own` settings."""
  config = defaults.get_config(name, TRAINING)
  dropout = {"dropout": (0.0, 0.2, 0.5)} if "dropout" in config.model else {}
  config.update({"search": {"model": {"noise": (0.0, 1.0), **dropout},
                            "optimizer": {"weight_decay": (0.0, 1e-2, 1.0), "learning_rate": (5e-4, 2e-3)}}})
  own = own or {}
  config.update(data.choose(variant, {**{name: {} for name in own}, **VARIANTS}))
  config.update(own.get(variant, {}))
  return config
