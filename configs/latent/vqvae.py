"""VQ-VAE, with a gated PixelCNN as the prior of its codes.

Variants: digits; binarized_mnist; mnist and images, any images of integers (with --config.data.path=...); captions, any
images given captions (with --config.data.path=FILE#prefix=caption), whose prior is a transformer. The prior is any
model of discrete images: --config.model.prior.name=transformer.
"""

import ml_collections

from configs import data
from gdm.runs import defaults

# Of codes after the words of a caption, which a fifth of training goes without; of the others words are withheld.
_OF_CAPTIONS = {"name": "transformer", "prefix_dropout": 0.2, "prefix_token_dropout": 0.1,
                "network": {"num_layers": 2, "num_heads": 4, "width": 64, "dropout": 0.2}}
_PRIOR = {"name": "gated_pixelcnn", "network": {"width": 64, "num_layers": 4, "first_size": 5, "skip_width": 64}}
# Steps of convolutions are written out: a CPU takes their gradients in loops many times as long.
_LONG = {"num_steps": 20_000, "eval_every": 1000, "checkpoint_every": 1000, "steps_per_call": 1, "unroll_call": False}

VARIANTS = {
    "digits": {"model": {"num_codes": 32, "encoder": {"widths": (32, 64)}, "decoder": {"widths": (64, 32)}}},
    **{name: {"training": _LONG} for name in ("binarized_mnist", "mnist", "images")},
    "captions": {"model": {"num_codes": 64, "encoder": {"widths": (16, 32, 64)}, "decoder": {"widths": (64, 32, 16)}},
                 "data": {"batch_size": 32}, "training": {**_LONG, "num_steps": 3000, "eval_every": 250}},
}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return defaults.get_config("vqvae", {
      "model": {"prior": _OF_CAPTIONS if variant == "captions" else _PRIOR},
      "optimizer": {"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "clip_norm": 50.0},
      "training": {"num_steps": 5000, "steps_per_call": 1, "unroll_call": False, "ema_decay": 0.999, "log_every": 250,
                   "eval_every": 500, "checkpoint_every": 1000},
  }, data.choose(variant, VARIANTS))
