"""What the configs of this family share: the fields of every autoregressive model, and how they are trained."""

from typing import Any

import ml_collections

from configs import base


def get_config(name: str, learning_rate: float = 1e-3, **fields: Any) -> ml_collections.ConfigDict:
  """A config of the model `name`, with its own fields beside the family's."""
  config = base.get_config()
  config.model = {
      "name": name,
      "ordering": "natural",
      "ordering_seed": 0,
      "heads": "auto",
      "fallback": 1e-5,
      "center": False,
      "input_dropout": 0.0,
      "ordered": True,
      "output_bias": "marginals",
      **fields,
  }
  config.update({
      "optimizer": {"schedule": "cosine", "learning_rate": learning_rate},
      "training": {"num_steps": 15_000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 250,
                   "checkpoint_every": 5000, "patience": 12},
      "search": {"model": {"input_dropout": (0.0, 0.1, 0.2)},
                 "optimizer": {"learning_rate": (learning_rate / 3, learning_rate, 3 * learning_rate)}},
  })
  return config
