"""WGAN (Arjovsky, Chintala and Bottou, arXiv:1701.07875): a critic of bounded weights estimates a distance."""

from typing import Unpack

import flax.linen as nn

from gdm.adversarial.gan import GAN
from gdm.adversarial.networks.perceptrons import PerceptronCritic, PerceptronGenerator
from gdm.adversarial.settings import GANFields
from gdm.dataspec import DataSpec


def wgan(spec: DataSpec, generator: nn.Module = PerceptronGenerator(), critic: nn.Module = PerceptronCritic(),
         class_conditional: bool = False, clip: float = 0.01, critic_steps: int = 5,
         **settings: Unpack[GANFields]) -> GAN:
  """Return a GAN whose critic's weights are clipped; algorithm 1 trains both by RMSProp at 5e-5.

  Args:
    spec: the data.
    generator, critic: the networks.
    class_conditional: whether they are given the labels.
    clip: bound of the critic's weights.
    critic_steps: the critic's steps for one of the generator.
    **settings: the other fields of `GAN`.

  Example:
    model = wgan(DataSpec((2,), None), latent_dims=2)
  """
  return GAN(spec, generator=generator, critic=critic, class_conditional=class_conditional, loss="wasserstein",
             clip=clip, critic_steps=critic_steps, **settings)
