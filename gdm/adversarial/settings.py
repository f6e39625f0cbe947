"""Fields of a GAN that recipes leave as they are."""

from typing import TypedDict


class GANFields(TypedDict, total=False):
  """See `gdm.adversarial.gan.GAN` for their meanings and defaults."""

  latent_dims: int
  r1: float
  label_smoothing: float
  label_flips: float
  instance_noise: float
  instance_noise_steps: int
  pac: int
