"""DCGAN: convolutions and batch normalization.

Variants: digits; mnist; stacked_mnist, 1,000 modes, by critics of pairs (PacDCGAN2); images, any images of integers
(with --config.data.path=...). Images resized before they are convolved, which makes no checkerboards, are
--config.model.generator.upsampling=resize.
"""

import ml_collections

from configs.adversarial import shared

VARIANTS = {**shared.IMAGES, "stacked_mnist": {**shared.IMAGES["mnist"], "model": {"pac": 2}}}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config("dcgan", variant, VARIANTS)
