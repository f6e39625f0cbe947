"""Purification by noise: an input is noised until a perturbation drowns in it, and denoised by a model (DiffPure: Nie
et al., arXiv:2205.07460, section 3)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, Num

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import Carry, HasDenoise, Params


@dataclasses.dataclass(frozen=True)
class DiffusionPurifier:
  """Purification by any model that denoises: a diffusion model as in the paper, an energy, a denoising autoencoder.

  Each call draws; an attack through it averages over draws.

  Attributes:
    model: has `denoise`.
    deviation: of the noise, in the data's units. The more, the less is left of a perturbation, and of the input.

  Raise ConfigError where the model does not denoise.
  """

  model: Any
  deviation: int | float

  def __post_init__(self) -> None:
    checks.positive("deviation", self.deviation)
    if not isinstance(self.model, HasDenoise):
      raise ConfigError(f"{type(self.model).__name__} has no `denoise` to purify by; choose a diffusion model, an "
                        "energy or a denoising autoencoder.")

  @property
  def spec(self) -> DataSpec:
    return self.model.spec

  def purify(self, params: Params, carry: Carry, key: Key[Array, ""],
             x: Num[Array | np.ndarray, "batch *event"]) -> Num[Array, "batch *event"]:
    """Draw purified examples; integers are the nearest levels."""
    noise_key, key = jax.random.split(key)
    noised = jnp.asarray(x).astype(jnp.float32) + self.deviation * jax.random.normal(noise_key, x.shape)
    drawn = self.model.denoise(params, carry, key, noised, self.deviation).x
    if self.spec.levels is None:
      return drawn
    return jnp.clip(jnp.rint(drawn), 0, self.spec.levels - 1).astype(jnp.int32)
