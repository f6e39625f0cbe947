"""Energy that tilts a flow, trained beside it, by telling the data from the flow's samples.

Variants: two_moons, rings and spirals, densities in the plane; npz, tables of real numbers (with
--config.data.path=...). The base is any model with an exact density and samples: its fields are
--config.model.base.<field>=...
"""

import ml_collections

from configs import data
from configs.energy import shared

VARIANTS = {
    **{name: {"data": {"batch_size": 256}, "evaluation": {"batch_size": 1000},
              "sampling": {"num": 4000}}
       for name in ("two_moons", "rings", "spirals")},
    # Recorded in steps, as tables are: without noise a flow finds them.
    "npz": {"model": {"base": {"noise": 1.0}},
            "training": {"eval_every": 500, "checkpoint_every": 500}},
}


def get_config(variant: str = "rings") -> ml_collections.ConfigDict:
  common = {"model": {"base": {"name": "maf"}, "objective": "nce"}, "optimizer": {"learning_rate": 2e-3}}
  return shared.get_continuous_config("tilted", common, data.choose(variant, VARIANTS))
