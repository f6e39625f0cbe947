"""VAE.

Variants: digits; binarized_mnist; mnist and images, any images of integers (with --config.data.path=...), by
convolutions; npz, tables (with --config.data.path=...). The prior is any model of real vectors:
--config.model.prior.name=maf.
"""

import ml_collections

from configs.latent import shared


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  """Return the config of a variant; raises a ConfigError that names the known ones."""
  return shared.get_config(variant, "vae", shared.DIGITS)
