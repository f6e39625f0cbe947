"""Norms of perturbations: the steepest step, the nearest point of a ball within the data's range, a random start."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.dataspec import DataSpec

_HALVINGS = 40  # of the interval in which a scale lies: beyond float32's precision


class Room(NamedTuple):
  """How far each value may be moved down and up.

  Attributes:
    low: at most 0.
    high: at least 0.
  """

  low: Float[Array, "batch *event"]
  high: Float[Array, "batch *event"]

  @classmethod
  def around(cls, spec: DataSpec, x: Float[Array, "batch *event"]) -> "Room":
    """Return the room of integers within [0, levels - 1]; real numbers have no limits."""
    if spec.levels is None:
      return cls(jnp.full_like(x, -jnp.inf), jnp.full_like(x, jnp.inf))
    return cls(-x, spec.levels - 1 - x)


class Norm(abc.ABC):
  """A norm of perturbations d [batch, *event], each example's its own."""

  @abc.abstractmethod
  def size(self, d: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
    """Return the norm of each perturbation."""

  @abc.abstractmethod
  def steepest(self, slope: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """Return the perturbation of norm 1 along which a function of this gradient rises most; 0 where it has none."""

  @abc.abstractmethod
  def nearest(self, d: Float[Array, "batch *event"], epsilon: int | float, room: Room) -> Float[Array, "batch *event"]:
    """Return the closest perturbation, in the Euclidean sense, of norm at most epsilon and within the room."""

  @abc.abstractmethod
  def draw(self, key: Key[Array, ""], shape: tuple[int, ...], epsilon: int | float) -> Float[Array, "batch *event"]:
    """Draw perturbations uniformly from the ball."""


@dataclasses.dataclass(frozen=True)
class Largest(Norm):
  """The largest absolute value, L-infinity."""

  def size(self, d):
    return jnp.max(jnp.abs(d), axis=_others(d))

  def steepest(self, slope):
    return jnp.sign(slope)

  def nearest(self, d, epsilon, room):
    return jnp.clip(d, jnp.maximum(room.low, -epsilon), jnp.minimum(room.high, epsilon))

  def draw(self, key, shape, epsilon):
    return epsilon * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


@dataclasses.dataclass(frozen=True)
class Euclidean(Norm):
  """The root of the sum of squares, L2."""

  def size(self, d):
    largest = jnp.maximum(jnp.max(jnp.abs(d), axis=_others(d), keepdims=True), 1e-30)  # squares must not underflow
    return jnp.squeeze(largest, _others(d)) * jnp.sqrt(jnp.sum(jnp.square(d / largest), axis=_others(d)))

  def steepest(self, slope):
    size = self.size(slope).reshape(-1, *(1,) * (slope.ndim - 1))
    return jnp.where(size > 0.0, slope / jnp.where(size > 0.0, size, 1.0), 0.0)

  def nearest(self, d, epsilon, room):
    """The closest point is d scaled down, then clipped to the room: by the conditions of Karush, Kuhn and Tucker, with
    1 / scale - 1 the multiplier of the norm. The scale is found by halving, since the norm rises with it."""
    ones = jnp.ones((len(d), *(1,) * (d.ndim - 1)), d.dtype)

    def clipped(scale: Float[Array, "batch *ones"]) -> Float[Array, "batch *event"]:
      return jnp.clip(scale * d, room.low, room.high)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
      low, high = ends
      middle = 0.5 * (low + high)
      fits = self.size(clipped(middle)).reshape(ones.shape) <= epsilon
      return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (0.0 * ones, ones))
    fits = self.size(clipped(ones)).reshape(ones.shape) <= epsilon
    return clipped(jnp.where(fits, ones, low))

  def draw(self, key, shape, epsilon):
    key, radius_key = jax.random.split(key)
    direction = self.steepest(jax.random.normal(key, shape))
    num_dims = max(direction[0].size, 1)
    radius = jax.random.uniform(radius_key, (shape[0], *(1,) * (len(shape) - 1))) ** (1.0 / num_dims)
    return epsilon * radius * direction


NORMS: Mapping[str, Norm] = {"linf": Largest(), "l2": Euclidean()}


def _others(d: Array) -> tuple[int, ...]:
  return tuple(range(1, d.ndim))
