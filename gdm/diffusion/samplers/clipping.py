"""Predictions clipped to the range of the data."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.sampler import cost


@dataclasses.dataclass(frozen=True)
class Clipped:
  """A denoising function whose data lie in [-1, 1], where the data is known to.

  Late on a path a small error of the predicted noise is a large one of the data. The code of Ho et al.
  (arXiv:2006.11239) clips so.
  """

  denoise: Denoise

  @property
  def cost(self) -> int:
    """Network evaluations of a call."""
    return cost(self.denoise)

  def __call__(self, x: Float[Array, "batch *event"], t: Float[Array, " batch"]) -> Float[Array, "batch *event"]:
    return jnp.clip(self.denoise(x, t), -1.0, 1.0)

  def with_variance(self, x: Float[Array, "batch *event"],
                    t: Float[Array, " batch"]) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    """Return the clipped data and v, where the function inside is a `DenoiseWithVariance`."""
    inside: Any = self.denoise
    data, fraction = inside.with_variance(x, t)
    return jnp.clip(data, -1.0, 1.0), fraction
