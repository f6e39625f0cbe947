"""Conditional GAN (Mirza and Osindero, arXiv:1411.1784): both networks are given the label."""

from typing import Unpack

import flax.linen as nn

from gdm.adversarial.gan import GAN
from gdm.adversarial.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator
from gdm.adversarial.settings import GANFields
from gdm.dataspec import DataSpec


def conditional_gan(spec: DataSpec, generator: nn.Module = ConvolutionalGenerator(),
                    critic: nn.Module = ConvolutionalCritic(normalization="batch"), class_conditional: bool = True,
                    loss: str = "non_saturating", **settings: Unpack[GANFields]) -> GAN:
  """Return a GAN of labelled data.

  The generator gets labels beside its latents; the critic as channels of the image, or with critic.labels=projection by
  a product with its features (arXiv:1802.05637).

  Args:
    spec: the data, with labels.
    generator, critic: the networks.
    class_conditional: whether they are given the labels.
    loss: one of `gdm.adversarial.losses.LOSSES`.
    **settings: the other fields of `GAN`.

  Example:
    model = conditional_gan(DataSpec((28, 28, 1), 256, num_classes=10))
  """
  return GAN(spec, generator=generator, critic=critic, class_conditional=class_conditional, loss=loss, **settings)
