"""The divergence of a velocity field, exact or by random probes: the rate at which a flow changes log-densities."""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks

Field = Callable[[Float[Array, "batch *event"]], Float[Array, "batch *event"]]


@runtime_checkable
class JacobianTrace(Protocol):
  """A way to find the trace of a field's Jacobian."""

  def probes(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "num batch *event"]:
    """Return the directions to differentiate along, which stay the same along an ODE."""
    ...


@dataclasses.dataclass(frozen=True)
class ExactTrace:
  """Along every axis: as many derivatives as dimensions."""

  def probes(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "num batch *event"]:
    num_dims = math.prod(shape[1:])
    axes = jnp.eye(num_dims).reshape(num_dims, 1, *shape[1:])
    return jnp.broadcast_to(axes, (num_dims, *shape))


@dataclasses.dataclass(frozen=True)
class Hutchinson:
  """Along random signs, scaled to average: an unbiased estimate (Hutchinson 1990; arXiv:1810.01367, section 3.1).

  Attributes:
    num_probes: of each example.
  """

  num_probes: int = 1

  def __post_init__(self) -> None:
    checks.at_least("num_probes", self.num_probes, 1)

  def probes(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "num batch *event"]:
    return jax.random.rademacher(key, (self.num_probes, *shape), float) / math.sqrt(self.num_probes)


def divergence(field: Field, x: Float[Array, "batch *event"],
               probes: Float[Array, "num batch *event"]) -> tuple[Float[Array, "batch *event"], Float[Array, " batch"]]:
  """Return the field at x, and for each example the sum over probes v of v^T J v.

  It costs one evaluation of the field and `num` tangents along it.
  """
  value, push = jax.linearize(field, x)
  moved = jax.vmap(push)(probes.astype(x.dtype))
  return value, jnp.sum(jnp.sum(probes.astype(x.dtype) * moved, axis=0).reshape(x.shape[0], -1), axis=-1)
