"""Conditional GAN of images and their labels.

Variants: digits; mnist and images, any images of integers with labels (with --config.data.path=...). Labels by
projection are --config.model.critic.labels=projection.
"""

import ml_collections

from configs.adversarial import shared


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config("conditional_gan", variant, shared.IMAGES)
