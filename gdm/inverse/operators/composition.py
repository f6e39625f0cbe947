"""Composition: one operator after another."""

import dataclasses

from jaxtyping import Array, Float

from gdm.errors import SpecError
from gdm.inverse.operators.operator import Leaf, LinearOperator, Operator, registered


@dataclasses.dataclass(frozen=True)
class _After:
  """What is measured of what another operator measures.

  Attributes:
    inner: what acts on the example.
    outer: what acts on the measurement of `inner`.
  """

  inner: Leaf  # Operator
  outer: Leaf  # Operator

  @property
  def event(self) -> tuple[int, ...]:
    return self.inner.event

  @property
  def measured(self) -> tuple[int, ...]:
    return self.outer.measured

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *measured"]:
    return self.outer.forward(self.inner.forward(x))


@registered("inner", "outer", static=())
@dataclasses.dataclass(frozen=True)
class Composition(_After):
  """An operator of what another one measures; one of them is not linear."""


@registered("inner", "outer", static=())
@dataclasses.dataclass(frozen=True)
class LinearComposition(_After):
  """A linear operator of what another linear one measures."""

  def adjoint(self, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *event"]:
    return self.inner.adjoint(self.outer.adjoint(y))


def composed(inner: Operator, outer: Operator) -> Composition | LinearComposition:
  """Return `outer` after `inner`, linear where both are.

  Raise SpecError where `outer` is of another event than `inner` measures.

  Example:
    operator = composed(blur((8, 8, 1), 1.0), downsampling((8, 8, 1), 2))
    y = operator.forward(jnp.ones((16, 8, 8, 1)))  # [16, 4, 4, 1]
  """
  if tuple(outer.event) != tuple(inner.measured):
    raise SpecError(f"the second operator is of events {outer.event}, but the first one measures {inner.measured}; "
                    "make it of that shape.")
  if isinstance(inner, LinearOperator) and isinstance(outer, LinearOperator):
    return LinearComposition(inner, outer)
  return Composition(inner, outer)
