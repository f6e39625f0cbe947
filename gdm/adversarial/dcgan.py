"""DCGAN (Radford, Metz and Chintala, arXiv:1511.06434): convolutions and batch normalization."""

from typing import Unpack

import flax.linen as nn

from gdm.adversarial.gan import GAN
from gdm.adversarial.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator
from gdm.adversarial.settings import GANFields
from gdm.dataspec import DataSpec


def dcgan(spec: DataSpec, generator: nn.Module = ConvolutionalGenerator(),
          critic: nn.Module = ConvolutionalCritic(normalization="batch"), class_conditional: bool = False,
          loss: str = "non_saturating", **settings: Unpack[GANFields]) -> GAN:
  """Return a GAN of images by convolutions.

  Args:
    spec: the data.
    generator, critic: the networks.
    class_conditional: whether they are given the labels.
    loss: one of `gdm.adversarial.losses.LOSSES`.
    **settings: the other fields of `GAN`.

  Example:
    model = dcgan(DataSpec((28, 28, 1), 256), generator=ConvolutionalGenerator(upsampling="resize"))
  """
  return GAN(spec, generator=generator, critic=critic, class_conditional=class_conditional, loss=loss, **settings)
