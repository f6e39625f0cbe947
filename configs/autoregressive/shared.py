"""What the configs of this family share: how models of vectors are trained."""

import ml_collections

from gdm.runs import defaults


def get_config(name: str, learning_rate: float = 1e-3) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, trained as this family is."""
  return defaults.get_config(name, {
      "optimizer": {"schedule": "cosine", "learning_rate": learning_rate},
      "training": {"num_steps": 15_000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 250,
                   "checkpoint_every": 5000, "patience": 12},
      "search": {"model": {"input_dropout": (0.0, 0.1, 0.2)},
                 "optimizer": {"learning_rate": (learning_rate / 3, learning_rate, 3 * learning_rate)}},
  })
