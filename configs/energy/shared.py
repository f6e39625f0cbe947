"""What the configs of this family share: how they are trained."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from gdm.runs import defaults


def get_config(name: str) -> ml_collections.ConfigDict:
  """Return the config of the model `name`, trained as energies of discrete data are."""
  return defaults.get_config(name, {
      # Towards the end the chains must keep up with ever smaller steps, and the averages forget the noise.
      "optimizer": {"schedule": "linear", "learning_rate": 1e-3},
      "training": {"num_steps": 10_000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 2000,
                   "checkpoint_every": 5000},
  })


def get_continuous_config(name: str, *settings: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Return the config of the model `name` of real numbers, trained as such energies are, with settings that differ."""
  return defaults.get_config(name, {
      "model": {"network": {"name": "mlp"}},
      "optimizer": {"schedule": "linear", "learning_rate": 1e-3, "clip_norm": 10.0},
      "training": {"num_steps": 5000, "steps_per_call": 10, "ema_decay": 0.999, "log_every": 100, "eval_every": 1000,
                   "checkpoint_every": 1000},
  }, *settings)
