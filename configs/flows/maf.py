"""MAF.

Variants: two_moons, eight_gaussians and rings, densities in the plane; npz and red_wine, tables of real numbers, and
images, any images of integers (with --config.data.path=...); digits; mnist and cifar10, for an accelerator.
"""

import ml_collections

from configs.flows import shared

OWN = {
    # With the base that makes it MAF MoG (section 4.2 of the paper); chosen on the validation part of fold 1.
    "red_wine": {"model": {"base": "mixture", "hidden": (100, 100), "dropout": 0.4}},
}


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config(variant, "maf", OWN)
