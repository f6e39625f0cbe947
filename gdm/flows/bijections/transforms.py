"""Invertible maps of single numbers, whose parameters something else gives: a network that sees other numbers.

A transform is a small object without parameters of its own. All of them are the identity where all parameters are
zero, so a conditioner whose last layer starts at zero starts a flow at the identity.
"""

import dataclasses
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.errors import ConfigError
from gdm.flows.bijections.spline import Grid, spline_forward, spline_inverse


class Elementwise(NamedTuple):
  """A value and, for each entry, the log of the absolute derivative of the map that made it, in nats."""

  value: Float[Array, "*shape"]
  log_det: Float[Array, "*shape"]


@runtime_checkable
class ElementwiseTransform(Protocol):
  """A map of numbers that is invertible whatever its parameters are."""

  @property
  def num_parameters(self) -> int:
    """Number of parameters of each number."""
    ...

  def forward(self, x: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    """Map data towards the base."""
    ...

  def inverse(self, y: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    """Map the base towards the data."""
    ...


@dataclasses.dataclass(frozen=True)
class Additive:
  """y = x + shift: volume-preserving (NICE, Dinh et al., arXiv:1410.8516, section 3.2)."""

  @property
  def num_parameters(self) -> int:
    return 1

  def forward(self, x: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    return Elementwise(x + parameters[..., 0], jnp.zeros_like(x))

  def inverse(self, y: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    return Elementwise(y - parameters[..., 0], jnp.zeros_like(y))


@dataclasses.dataclass(frozen=True)
class Affine:
  """y = x exp(s) + shift (RealNVP, Dinh et al., arXiv:1605.08803, equation 7); parameters (shift, s before its bound).

  s = bound tanh(raw / bound): near zero it is raw itself, and no scale leaves exp(-bound) to exp(bound), in either
  direction. RealNVP bounds by a learned multiple of tanh, Glow by sigmoid(raw + 2), which only ever shrinks.

  Attributes:
    bound: the largest |s|; None for none, as in MAF.

  Example:
    transform, x = Affine(bound=2.0), jax.random.normal(key, (16, 4))
    shift, raw = jnp.ones((16, 4)), jnp.zeros((16, 4))
    y, log_det = transform.forward(x, jnp.stack([shift, raw], axis=-1))
    x = transform.inverse(y, jnp.stack([shift, raw], axis=-1)).value
  """

  bound: float | None = 3.0

  def __post_init__(self) -> None:
    if self.bound is not None and self.bound <= 0.0:
      raise ConfigError(f"bound of an affine transform is {self.bound}; it must be above 0, or None for no bound.")

  @property
  def num_parameters(self) -> int:
    return 2

  def log_scale(self, parameters: Float[Array, "*shape num"]) -> Float[Array, "*shape"]:
    raw = parameters[..., 1]
    return raw if self.bound is None else self.bound * jnp.tanh(raw / self.bound)

  def forward(self, x: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    log_scale = self.log_scale(parameters)
    return Elementwise(x * jnp.exp(log_scale) + parameters[..., 0], log_scale)

  def inverse(self, y: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    log_scale = self.log_scale(parameters)
    return Elementwise((y - parameters[..., 0]) * jnp.exp(-log_scale), -log_scale)


@dataclasses.dataclass(frozen=True)
class RationalQuadratic:
  """A monotonic rational-quadratic spline on [-bound, bound], the identity outside (arXiv:1906.04032, section 3.1).

  Attributes:
    num_bins: bins of the spline; it takes 3 num_bins - 1 parameters.
    bound: half the width of what it covers.
    minimum: least width and height of a bin, as parts of the interval, and least slope at a knot.

  Example:
    transform, x = RationalQuadratic(num_bins=4), jax.random.normal(key, (16, 4))
    parameters = jax.random.normal(key, (16, 4, transform.num_parameters))
    y, log_det = transform.forward(x, parameters)
    x = transform.inverse(y, parameters).value
  """

  num_bins: int = 8
  bound: float = 3.0
  minimum: float = 1e-3

  def __post_init__(self) -> None:
    self.grid  # noqa: B018 - checks the fields

  @property
  def grid(self) -> Grid:
    return Grid(self.num_bins, self.bound, self.minimum)

  @property
  def num_parameters(self) -> int:
    return self.grid.num_parameters

  def forward(self, x: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    return Elementwise(*spline_forward(self.grid, x, parameters))

  def inverse(self, y: Float[Array, "*shape"], parameters: Float[Array, "*shape num"]) -> Elementwise:
    return Elementwise(*spline_inverse(self.grid, y, parameters))
