"""Classifier-free guidance: a denoising function made of two."""

import dataclasses
from typing import Any

from jaxtyping import Array, Float

from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.sampler import cost
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Guided:
  """unconditional + scale (conditional - unconditional) (Ho & Salimans, arXiv:2207.12598, with scale = 1 + w).

  At given x_t the predictions of data, noise, v, score and velocity are linear in each other: guiding one guides all.

  Attributes:
    conditional: given the labels.
    unconditional: not given them; None is an error unless scale is 1.
    scale: 0 is unconditional, 1 conditional, above 1 guided.
  """

  conditional: Denoise
  unconditional: Denoise | None
  scale: float

  def __post_init__(self) -> None:
    if self.unconditional is None and self.scale != 1.0:
      raise ConfigError(f"guidance is {self.scale}, which needs a model that was trained with and without labels; give "
                        "labels to such a model, or set guidance to 1.")

  @property
  def cost(self) -> int:
    """Network evaluations of a call."""
    return cost(self.conditional) + (0 if self.unconditional is None else cost(self.unconditional))

  def __call__(self, x: Float[Array, "batch *event"], t: Float[Array, " batch"]) -> Float[Array, "batch *event"]:
    return self._guided(self.conditional(x, t), x, t)

  def with_variance(self, x: Float[Array, "batch *event"],
                    t: Float[Array, " batch"]) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    """Return the guided data, and the conditional function's v, where it has one (`DenoiseWithVariance`)."""
    conditional: Any = self.conditional
    given, fraction = conditional.with_variance(x, t)
    return self._guided(given, x, t), fraction

  def _guided(self, given, x, t):
    if self.unconditional is None:
      return given
    free = self.unconditional(x, t)
    return free + self.scale * (given - free)
