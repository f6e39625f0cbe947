"""A run of seconds that logs, validates and saves all the time, so that a fault finds it at all of that."""

import ml_collections

from gdm.runs import defaults


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Return the config; its variant `few` saves a third as often, for buckets, where a save is some fifty requests."""
  config = defaults.get_config()
  config.data.transforms = ("binarize",)
  config.model = {"name": "fvsbn", "input_dropout": 0.1}
  config.optimizer.learning_rate = 0.01
  config.training.update(num_steps=200, log_every=5, eval_every=25, checkpoint_every=20, keep=3, ema_decay=0.9,
                         stall_seconds=5.0)
  if variant == "few":
    config.training.update(num_steps=100, eval_every=50, checkpoint_every=25)
  return config
