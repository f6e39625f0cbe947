"""DCGAN: convolutions and batch normalization.

Variants: digits; mnist and images, any images of integers (with --config.data.path=...). Images resized before they are
convolved, which makes no checkerboards, are --config.model.generator.upsampling=resize.
"""

import ml_collections

from configs.adversarial import shared


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config("dcgan", variant, shared.IMAGES)
