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


def get_continuous_config(name: str, **fields: Any) -> ml_collections.ConfigDict:
  """A config of the model `name` of real numbers, with its own fields beside those of all such energies."""
  config = base.get_config()
  config.model = {
      "name": name,
      "network": "auto",
      "hidden": (128, 128),
      "spectral": False,
      "objective": "persistent",
      "num_steps": 20,
      "step_size": 0.01,
      "noise": 1.0,
      "adjusted": False,
      "restart": 0.05,
      "chain_shards": 8,
      "chains_per_shard": 64,
      "range_margin": 1.0,
      "gap_limit": 1000.0,
      "energy_penalty": 0.0,
      "kl_weight": 0.0,
      "denoising_scale": 0.1,
      "normalizer": "auto",
      "num_temperatures": 200,
      "num_chains": 256,
      "hmc_step_size": 0.4,
      "num_leapfrog": 4,
      **fields,
  }
  config.update({
      "optimizer": {"schedule": "linear", "learning_rate": 1e-3, "clip_norm": 10.0},
      "training": {"num_steps": 5000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 1000,
                   "checkpoint_every": 1000},
  })
  return config
