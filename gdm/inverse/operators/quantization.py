"""Quantization: values rounded to multiples of a step. It is not linear."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.inverse.operators.operator import Leaf, registered


@registered("step")
@dataclasses.dataclass(frozen=True)
class Quantization:
  """Values rounded to the nearest multiple of a step; gradients pass as if they were not rounded.

  Attributes:
    step: distance of two values, in the data's units.
    event: shape of an example.
  """

  step: Leaf  # Float[Array, ""] | float
  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int, ...]:
    return self.event

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    return x + jax.lax.stop_gradient(self.step * jnp.round(x / self.step) - x)


def quantization(event: tuple[int, ...], step: float) -> Quantization:
  """Return the rounding to multiples of a step. Raise ConfigError unless it is positive.

  Example:
    y = quantization((4,), step=0.5).forward(jax.random.normal(key, (16, 4)))
  """
  checks.positive("step of quantize", step, "(in the data's units)")
  return Quantization(float(step), tuple(event))
