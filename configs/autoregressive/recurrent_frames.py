"""A recurrent network over frames, and a model of a frame by --config.model.frame.name=nade | made | conditional_rbm,
the last with --config.model.objective=own; of real numbers, rnade.

Variants: jsb, the JSB chorales as piano rolls, and midi, any music (with --config.data.path=FOLDER of MIDI files), are
the recurrent NADE; worlds, what experiments.record writes (with --config.data.path=FILE.npz), is a mixture-density
network.
"""

import ml_collections

from configs import data
from gdm.runs import defaults

_NADE = {
    "data": {"batch_size": 16},
    "model": {"network": {"width": 256, "input_dropout": 0.2, "dropout": 0.3},
              "frame": {"name": "nade", "hidden": 150}},
}
VARIANTS = {
    "jsb": _NADE,
    "midi": _NADE,
    "worlds": {
        "data": {"batch_size": 64},
        "model": {"network": {"cell": "gru", "width": 64},
                  "frame": {"name": "rnade", "hidden": 32, "mixture": {"size": 5}}},
        "optimizer": {"learning_rate": 3e-3},
        "training": {"num_steps": 3000, "steps_per_call": 10, "ema_decay": 0.99, "log_every": 100, "eval_every": 250,
                     "patience": 0},
        "evaluation": {"batch_size": 100},
    },
}


def get_config(variant: str = "jsb") -> ml_collections.ConfigDict:
  return defaults.get_config("recurrent_frames", {
      "optimizer": {"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 50,
                    "clip_norm": 1.0, "weight_decay": 0.01},
      "training": {"num_steps": 3000, "steps_per_call": 5, "ema_decay": 0.998, "log_every": 50, "eval_every": 150,
                   "checkpoint_every": 1000, "patience": 8},
      "evaluation": {"batch_size": 40},
  }, data.choose(variant, VARIANTS))
