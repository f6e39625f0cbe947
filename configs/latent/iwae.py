"""IWAE, a VAE trained by many draws.

Variants: digits; binarized_mnist; mnist and images, any images of integers (with --config.data.path=...), by
convolutions; npz, tables (with --config.data.path=...).
"""

import ml_collections

from configs.latent import shared

OWN = {"digits": {"model": {**shared.DIGITS["digits"]["model"], "num_samples": 10}}}


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config(variant, "iwae", OWN)
