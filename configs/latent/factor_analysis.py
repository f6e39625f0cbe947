"""Factor analysis, by EM.

Variants: npz, red_wine (with --config.data.path=..., continuous data).
"""

import ml_collections

from configs import data
from gdm.runs import defaults

VARIANTS = {
    "npz": {"model": {"latent_dims": 4}},
    "red_wine": {"model": {"latent_dims": 4}},
}


def get_config(variant: str = "npz") -> ml_collections.ConfigDict:
  return defaults.get_config("factor_analysis", data.choose(variant, VARIANTS))
