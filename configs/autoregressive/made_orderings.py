"""A mixture of MADEs on real data, each in an ordering of its own, trained side by side and judged jointly.

Unlike a MADE of several orderings, which share one network, the members have parameters of their own: better where data
is little. Variants: npz for any set of real numbers (with --config.data.path=...); red_wine is npz with folds (with
--config.data.path=...#fold=1) and settings chosen on the validation split.
"""

import ml_collections

from configs import data
from configs.autoregressive import made
from gdm.runs import registry

NUM_MEMBERS = 8
# A mixture bears members that are fitted more closely than a model that stands alone.
NETWORK = {"hidden": (300, 300), "dropout": 0.25}
VARIANTS = {
    "npz": {"training": {"patience": 12}},
    "red_wine": {},
}


def get_config(variant: str = "npz") -> ml_collections.ConfigDict:
  config = made.get_config("red_wine")
  member = config.model.to_dict()
  member["network"] |= NETWORK
  # The data's own ordering, and random ones.
  members = tuple({**member, "ordering": "random" if seed else "natural", "ordering_seed": seed}
                  for seed in range(NUM_MEMBERS))
  with config.unlocked():
    config.model = registry.complete({"name": "ensemble", "components": members})
  config.update({
      "optimizer": {"learning_rate": 2e-3},
      "training": {"num_steps": 2200, "ema_decay": 0.998},
  })
  config.update(data.choose(variant, VARIANTS))
  return config
