"""What the configs of this family share: the data sets, and how networks of the plane and of images are trained."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from configs import data
from gdm.runs import defaults

# Four layers of the plane: with fewer, points between the modes are many times as frequent.
_PERCEPTRONS = {"latent_dims": 2, "generator": {"hidden": (128,) * 4}, "critic": {"hidden": (128,) * 4}}
_PLANE = {"model": _PERCEPTRONS, "data": {"batch_size": 256},
          "optimizer": {"learning_rate": 3e-3, "schedule": "cosine"},
          "training": {"num_steps": 16_000, "steps_per_call": 50, "unroll": False, "log_every": 1000,
                       "eval_every": 2000, "checkpoint_every": 2000},
          "evaluation": {"batch_size": 1000}, "sampling": {"num": 4000}}
# Steps of convolutions are written out: a CPU takes their gradients in loops many times as long.
_IMAGES = {"training": {"num_steps": 20_000, "eval_every": 1000, "checkpoint_every": 1000}}

PLANE = {name: _PLANE for name in ("grid", "ring8", "eight_gaussians")}
IMAGES = {
    "digits": {"model": {"latent_dims": 32}, "training": {"num_steps": 5000}},
    "mnist": _IMAGES,
    # Any images of integers: with --config.data.path=FILE.
    "images": _IMAGES,
}
# The networks of images, for recipes whose own are perceptrons.
GENERATOR = CRITIC = {"name": "convolutional"}
# Any table: with --config.data.path=FILE.
TABLES = {"npz": {"model": {"latent_dims": 8}, "training": {"num_steps": 10_000}}}


def get_config(name: str, variant: str, variants: Mapping[str, Any],
               *own: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, one of `variants`, with its `own` settings; later ones win."""
  return defaults.get_config(name, {
      "data": {"batch_size": 64},
      # Momentum of the usual 0.9 makes the two networks overshoot (arXiv:1511.06434, section 4).
      "optimizer": {"name": "adam", "learning_rate": 2e-4, "b1": 0.5},
      "training": {"ema_decay": 0.999, "log_every": 250, "eval_every": 500, "checkpoint_every": 500},
  }, data.choose(variant, dict(variants)), *own)
