"""Hierarchical VAE of images, by residual convolutions.

Variants: digits; binarized_mnist; mnist and images, any images of integers (with --config.data.path=...).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "digits": {"model": {"network": {"layers": (2, 1), "top_latents": 8, "top_width": 64}},
               "training": {"num_steps": 6000, "eval_every": 500, "checkpoint_every": 500}},
    # All latents at a quarter of the size, each layer given those before: at half the size they come to hold what the
    # top should, and the bound after 1,500 steps is 4 nats lower. Some 50 minutes of a core that is free for it.
    "binarized_mnist": {"model": {"network": {"layers": (0, 3)}, "warmup_steps": 500},
                        "optimizer": {"learning_rate": 2e-3}, "training": {"num_steps": 10_000}},
    "mnist": {},
    # Any images of integers: with --config.data.path=FILE.
    "images": {"model": {"network": {"latents": (4, 8), "top_latents": 64}}},
}


def get_config(variant: str = "binarized_mnist") -> ml_collections.ConfigDict:
  return defaults.get_config("hierarchical_vae", {
      "model": {"warmup_steps": 2000},
      "optimizer": {"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 200,
                    "clip_norm": 50.0},
      # Steps of convolutions are not looped over: a CPU takes their gradients in loops many times as long.
      "training": {"num_steps": 20_000, "ema_decay": 0.999, "log_every": 100, "eval_every": 1000,
                   "checkpoint_every": 1000},
      "evaluation": {"batch_size": 100, "num_samples": 10},
  }, data.choose(variant, VARIANTS))
