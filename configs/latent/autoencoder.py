"""Autoencoder; with --config.model.noise or --config.model.drop a denoising one.

Variants: digits; binarized_mnist; mnist and images, any images of integers (with --config.data.path=...), by
convolutions; npz, tables (with --config.data.path=...).
"""

import ml_collections

from configs.latent import shared


def get_config(variant: str = "digits") -> ml_collections.ConfigDict:
  return shared.get_config(variant, "autoencoder")
