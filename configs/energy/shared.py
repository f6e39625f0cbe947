"""What the configs of this family share: the fields of every energy model, and how they are trained."""

from typing import Any

import ml_collections

from configs import base


def get_config(name: str, **fields: Any) -> ml_collections.ConfigDict:
  """A config of the model `name`, with its own fields beside the family's."""
  config = base.get_config()
  config.model = {
      "name": name,
      "negatives": "pcd",
      "num_steps": 1,
      "chain_shards": 8,
      "chains_per_shard": 16,
      "normalizer": "auto",
      "num_temperatures": 1000,
      "num_chains": 256,
      **fields,
  }
  config.update({
      # Towards the end the chains must keep up with ever smaller steps, and the averages forget the noise.
      "optimizer": {"schedule": "linear", "learning_rate": 1e-3},
      "training": {"num_steps": 10_000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 2000,
                   "checkpoint_every": 5000},
  })
  return config
