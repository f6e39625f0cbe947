"""Neural spline flow, autoregressive.

Variants: two_moons, eight_gaussians and rings, densities in the plane; npz and red_wine, tables of real numbers, and
images, any images of integers (with --config.data.path=...); digits; mnist and cifar10, for an accelerator.
"""

import ml_collections

from configs.flows import shared

OWN = {
    # Chosen on the validation part of fold 1.
    "red_wine": {"model": {"num_layers": 3, "hidden": (200, 200), "dropout": 0.5}},
}


def get_config(variant: str = "two_moons") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config(variant, "spline_autoregressive", OWN)
