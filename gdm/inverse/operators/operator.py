"""Measurement operators: what is seen of an example. They act on batches, in the data's units.

Arrays of an operator are leaves of a pytree, so that a compiled function takes another mask or matrix of the same shape
without being compiled again. Operators are made by functions, which check their arguments (`mask`, `blur`, ...).
"""

import functools
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from gdm.errors import SpecError

# An array, typed in a comment: JAX also makes operators of what stands for their arrays, such as shapes.
Leaf = Any


@runtime_checkable
class Operator(Protocol):
  """A measurement without its noise.

  Attributes:
    event: shape of an example.
    measured: shape of the measurement of one example.

  Example:
    operator: Operator = quantization((8, 8, 1), 0.5)
    y = operator.forward(jnp.ones((16, 8, 8, 1)))
  """

  @property
  def event(self) -> tuple[int, ...]: ...

  @property
  def measured(self) -> tuple[int, ...]: ...

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *measured"]:
    """Return A(x)."""
    ...


@runtime_checkable
class LinearOperator(Operator, Protocol):
  """A linear measurement A x.

  Example:
    operator: LinearOperator = downsampling((8, 8, 1), 2)
    x = operator.adjoint(operator.forward(jnp.ones((16, 8, 8, 1))))
  """

  def adjoint(self, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *event"]:
    """Return the transpose applied to a measurement: <A x, y> = <x, adjoint(y)>."""
    ...


@runtime_checkable
class TightOperator(LinearOperator, Protocol):
  """A linear measurement with orthogonal rows of one length, A A^T = gain I, so that its pseudo-inverse is A^T / gain.

  Attributes:
    gain: squared length of the rows; all singular values are its root.

  Example:
    operator: TightOperator = downsampling((8, 8, 1), 2)
    x = operator.adjoint(jnp.ones((16, 4, 4, 1))) / operator.gain  # ones: the pseudo-inverse
  """

  @property
  def gain(self) -> float: ...


def registered(*arrays: str, static: tuple[str, ...] = ("event",)) -> Any:
  """Return a decorator that makes a dataclass a pytree whose leaves are the fields `arrays`."""
  return functools.partial(jax.tree_util.register_dataclass, data_fields=list(arrays), meta_fields=list(static))


def require_images(event: tuple[int, ...], operator: str) -> None:
  """Raise SpecError unless an event has the axes height, width and channels."""
  if len(event) != 3:
    raise SpecError(f"{operator} measures images (height, width, channels), but the event is {event}; choose mask or "
                    "project.")
