"""Settings of all diffusion configs: the data sets, and how models are trained on them.

Variants: two_moons, eight_gaussians and rings, densities in the plane; npz, tables of real numbers, and images, any
images of integers (with --config.data.path=...); digits; mnist and cifar10, for an accelerator. Some have captions too,
such images given captions (with --config.data.path=FILE#prefix=caption).
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from configs import data
from gdm.runs import defaults


def _images(**network: Any) -> dict[str, Any]:
  """Settings of images: a U-Net."""
  return {"model": {"network": {"name": "unet", "dropout": 0.1, **network}},
          "optimizer": {"learning_rate": 1e-3, "warmup_steps": 200}}


_VECTORS = {"model": {"network": {"name": "mlp"}}}

VARIANTS = {
    # Densities in the plane that are known.
    **{name: {**_VECTORS, "data": {"batch_size": 256}, "sampling": {"num": 4000}, "evaluation": {"batch_size": 1000}}
       for name in ("two_moons", "eight_gaussians", "rings")},
    # Any set of real numbers: with --config.data.path=FILE.
    "npz": _VECTORS,
    "digits": {**_images(width=16, num_blocks=1, dropout=0.2), "training": {"num_steps": 3000},
               "evaluation": {"num_samples": 16}},
    # Any images of integers: with --config.data.path=FILE.
    "images": {**_images(), "training": {"num_steps": 20_000, "eval_every": 1000}},
    # For an accelerator.
    "mnist": {**_images(width=64, multipliers=(1, 2, 2), attention=(7,)), "data": {"batch_size": 128},
              "training": {"num_steps": 100_000, "eval_every": 5000, "checkpoint_every": 5000, "ema_decay": 0.9999}},
    "cifar10": {**_images(width=128, multipliers=(1, 2, 2, 2), attention=(16,)), "data": {"batch_size": 128},
                "optimizer": {"learning_rate": 2e-4, "warmup_steps": 5000},
                "training": {"num_steps": 500_000, "eval_every": 10_000, "checkpoint_every": 10_000,
                             "ema_decay": 0.9999},
                "evaluation": {"batch_size": 100}},
}


# Pixels attend to words, a tenth of which training withholds, so that sampling can be guided. As much as one CPU core
# trains in ten minutes, like the next.
CAPTIONS = {"captions": {
    "model": {"network": {"name": "unet", "dropout": 0.1, "num_blocks": 1, "patch": 2, "attention": (8,),
                          "word_dropout": 0.2},
              "label_dropout": 0.1},
    "optimizer": {"learning_rate": 2e-3, "warmup_steps": 50}, "data": {"batch_size": 16},
    "training": {"num_steps": 1200, "steps_per_call": 1, "eval_every": 400, "ema_decay": 0.995},
    "sampling": {"num": 16, "guidance": 3.0}}}


# Spectrograms of spoken digits, given digit and speaker.
SPECTROGRAMS = {"digit_spectrograms": {
    "model": {"network": {"name": "unet", "num_blocks": 1, "patch": 2}, "class_conditional": True,
              "label_dropout": 0.1},
    "optimizer": {"learning_rate": 2e-3, "warmup_steps": 50}, "data": {"batch_size": 16},
    "training": {"num_steps": 5000, "steps_per_call": 1, "ema_decay": 0.995},
    "sampling": {"num": 60}, "evaluation": {"batch_size": 60}}}


def get_config(variant: str, name: str, changes: Mapping[str, dict] | None = None) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, with `changes` to some variants, or new ones."""
  changes = changes or {}
  return defaults.get_config(name, {
      "optimizer": {"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "clip_norm": 1.0},
      "training": {"num_steps": 5000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 500,
                   "checkpoint_every": 1000},
      "evaluation": {"num_samples": 4},
  }, data.choose(variant, {**{name: {} for name in changes}, **VARIANTS}), changes.get(variant, {}))
