"""SDEdit: a guide, such as a stroke or another image, is noised and denoised (Meng et al., arXiv:2108.01073)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.errors import ConfigError
from gdm.inverse.samplers.steps import Draws, WalkEnds, clipped, ddim, part, predict, walk
from gdm.model import Denoiser


def sdedit(denoiser: Denoiser, guide: Float[Array, "batch *event"], key: Key[Array, ""], num: int = 1, *,
           strength: float = 0.5, num_steps: int = 50, eta: float = 1.0) -> Draws:
  """Draw examples like a guide: it is noised up to some level, and denoised from there (algorithm 1).

  Args:
    denoiser: of data like those wanted; given labels, the draws have them.
    guide: values to start from.
    key: of the draws.
    num: draws of each guide.
    strength: share of the way from data to noise, on the scale of the steps, (sigma / alpha)^(1 / 7): 0 returns the
      guide denoised once, 1 forgets it.
    num_steps: steps down from there.
    eta: share of fresh noise.

  Raise ConfigError unless the strength is in [0, 1].

  Example:
    x = sdedit(denoiser, jnp.ones((16, 4)), key, num=2, strength=0.5, num_steps=5).x  # [2, 16, 4]
  """
  if not 0.0 <= strength <= 1.0:
    raise ConfigError(f"strength is {strength}; it must be in [0, 1], from the guide to a draw that forgets it.")
  way = part(denoiser, strength)
  tiled = jnp.tile(guide, (num, *(1,) * (guide.ndim - 1)))
  noise_key, key = jax.random.split(key)
  x = denoiser.alpha(way.first) * tiled + denoiser.sigma(way.first) * jax.random.normal(noise_key, tiled.shape)
  return Draws(from_part(denoiser, way, key, x, num_steps, eta).reshape(num, *guide.shape),
               {"nfe": (num_steps + 1) * denoiser.cost})


def from_part(denoiser: Denoiser, way: WalkEnds, key: Key[Array, ""], x: Float[Array, "batch *event"], num_steps: int,
              eta: float) -> Float[Array, "batch *event"]:
  """Return x moved from the first time of a part of the path to data, by DDIM steps."""
  def step(key, x, t, s):
    return ddim(denoiser, key, x, clipped(denoiser, predict(denoiser, x, t)), t, s, eta)

  return walk(denoiser, num_steps, key, x, step, way)
