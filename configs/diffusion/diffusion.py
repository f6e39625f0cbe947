"""Diffusion of any parts: a path, a prediction, a weighting and times, each by name (gdm/diffusion/recipes.py).

Variants: two_moons, eight_gaussians and rings, densities in the plane; npz, tables of real numbers, and images, any
images of integers (with --config.data.path=...); digits; mnist and cifar10, for an accelerator.
"""

import ml_collections

from configs.diffusion import shared


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """The config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config(variant, "diffusion")
