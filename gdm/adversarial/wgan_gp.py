"""WGAN-GP (Gulrajani et al., arXiv:1704.00028): a critic whose gradients are held near a norm of 1."""

from typing import Unpack

import flax.linen as nn

from gdm.adversarial.gan import GAN
from gdm.adversarial.networks.perceptrons import PerceptronCritic, PerceptronGenerator
from gdm.adversarial.settings import GANFields
from gdm.dataspec import DataSpec


def wgan_gp(spec: DataSpec, generator: nn.Module = PerceptronGenerator(), critic: nn.Module = PerceptronCritic(),
            class_conditional: bool = False, gradient_penalty: float = 10.0, critic_steps: int = 5,
            **settings: Unpack[GANFields]) -> GAN:
  """Return a GAN by the Wasserstein loss with a penalty of the critic's gradients, as algorithm 1.

  Args:
    spec: the data.
    generator, critic: the networks; the critic has no batch normalization.
    class_conditional: whether they are given the labels.
    gradient_penalty: lambda; 10 for images, 0.1 for points in the plane in the authors' code.
    critic_steps: the critic's steps for one of the generator.
    **settings: the other fields of `GAN`.

  Example:
    model = wgan_gp(DataSpec((2,), None), latent_dims=2, gradient_penalty=0.1)
  """
  return GAN(spec, generator=generator, critic=critic, class_conditional=class_conditional, loss="wasserstein",
             gradient_penalty=gradient_penalty, critic_steps=critic_steps, **settings)
