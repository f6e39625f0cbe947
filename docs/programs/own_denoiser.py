"""A denoiser of one's own, here the exact one of normal data, drawn from by every sampler."""

import jax
import jax.numpy as jnp

import gdm

MEAN, DEVIATION = jnp.array([1.0, -2.0]), 0.5
path = gdm.diffusion.Cosine()


def denoise(x, t):
  """Return the mean of clean data given x at times t [num], any function of these."""
  level = path.level(t)
  alpha, sigma = level.alpha[:, None], level.sigma[:, None]
  gain = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
  return MEAN + gain * (x - alpha * MEAN)


for name in gdm.diffusion.SAMPLERS:
  x = gdm.diffusion.sample_by(name, denoise, path, jax.random.key(0), (2000, 2), num_steps=100).x
  print(f"{name:20} mean {x.mean(axis=0)} deviation {x.std(axis=0)}")
