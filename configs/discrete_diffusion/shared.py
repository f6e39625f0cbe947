"""Settings of all configs of discrete diffusion: the data sets, and how models are trained on them.

Variants: digits; images, any images of integers, npz, any table of integers (each with --config.data.path=...);
adult and dna, binary tables; jsb_voices, chorales in four voices; shakespeare_long, windows of 128 characters, and
text, any text.
"""

from collections.abc import Mapping

import ml_collections

from configs import data
from gdm.runs import defaults

# Steps of convolutions are written out: a CPU takes their gradients in loops many times as long.
_CONVOLUTIONAL = {"steps_per_call": 1, "unroll_call": False}
_TRANSFORMER = {"network": {"name": "transformer", "positions_by": "rotary"}}

VARIANTS = {
    "digits": {"data": {"batch_size": 50},
               "model": {"network": {"name": "residual", "width": 48, "num_blocks": 3, "dropout": 0.2}},
               "optimizer": {"learning_rate": 2e-3, "weight_decay": 0.05},
               "training": {"num_steps": 5000, "eval_every": 500, **_CONVOLUTIONAL}},
    "images": {"model": {"network": {"name": "residual"}}, "training": {"num_steps": 20_000, **_CONVOLUTIONAL}},
    "npz": {"model": {"network": {"name": "mlp"}}},
    "adult": {"model": {"network": {"name": "mlp", "dropout": 0.1}}},
    "dna": {"model": {"network": {"name": "mlp", "dropout": 0.3}}},
    "jsb_voices": {
        "data": {"batch_size": 24},
        "model": {"network": {"name": "transformer", "tokens_of": "steps", "positions_by": "rotary", "dropout": 0.1}},
        "optimizer": {"learning_rate": 2e-3, "b2": 0.99, "weight_decay": 0.1},
        "training": {"num_steps": 3000, "eval_every": 500, "steps_per_call": 1},
        "evaluation": {"batch_size": 100, "num_samples": 4},
    },
    "shakespeare_long": {
        "data": {"batch_size": 16},
        "model": _TRANSFORMER,
        "optimizer": {"learning_rate": 3e-3, "b2": 0.99, "weight_decay": 0.1},
        "training": {"num_steps": 5000, "eval_every": 1000, "steps_per_call": 1},
        "evaluation": {"num_samples": 4},
    },
    "text": {"data": {"batch_size": 32}, "model": _TRANSFORMER,
             "optimizer": {"learning_rate": 2e-3, "b2": 0.99, "weight_decay": 0.1}},
}


SEQUENCES = ("shakespeare_long", "text", "jsb_voices")


def get_config(variant: str, name: str, own: Mapping[str, dict] | None = None,
               with_sequences: bool = True) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, and for some variants its `own` settings; sequences only where it takes
  them."""
  known = {each: settings for each, settings in VARIANTS.items() if with_sequences or each not in SEQUENCES}
  return defaults.get_config(name, {
      "optimizer": {"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100,
                    "clip_norm": 1.0, "weight_decay": 0.01},
      "training": {"num_steps": 10_000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 500,
                   "checkpoint_every": 1000},
      # A bound by few masks is noisy: so many are drawn for each example, at times spread evenly.
      "evaluation": {"num_samples": 16},
  }, data.choose(variant, known), (own or {}).get(variant, {}))
