"""A recurrent network over frames, and a model of a frame by --config.model.frame.name=nade | made | conditional_rbm,
the last with --config.model.objective=own.

Variants: jsb, the JSB chorales as piano rolls; midi for any music (with --config.data.path=FOLDER of MIDI files). Both
are the recurrent NADE.
"""

import ml_collections

from configs import data
from gdm.runs import defaults

_NADE = {
    "data": {"batch_size": 16},
    "model": {"network": {"width": 256, "input_dropout": 0.2, "dropout": 0.3},
              "frame": {"name": "nade", "hidden": 150}},
}
VARIANTS = {"jsb": _NADE, "midi": _NADE}


def get_config(variant: str = "jsb") -> ml_collections.ConfigDict:
  return defaults.get_config("recurrent_frames", {
      "optimizer": {"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 50,
                    "clip_norm": 1.0, "weight_decay": 0.01},
      "training": {"num_steps": 3000, "steps_per_call": 5, "ema_decay": 0.998, "log_every": 50, "eval_every": 150,
                   "checkpoint_every": 1000, "patience": 8},
      "evaluation": {"batch_size": 40},
  }, data.choose(variant, VARIANTS))
