"""Functions of a linear operator by its singular values: A = U diag(s) V^T.

Posterior samplers need f(A^T A) and f(A A^T) for functions of s: variances, steps, pseudo-inverses. Operators with
orthogonal rows have one singular value and need no decomposition; others are decomposed as a matrix.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.errors import SpecError
from gdm.inverse.operators.operator import Leaf, LinearOperator, TightOperator, registered

MAX_DENSE_DIMS = 4096  # entries of an example, or of its measurement, beyond which no matrix is decomposed
_RELATIVE_CUTOFF = 1e-4  # singular values below it, relative to the largest, count as zero: float32 cannot tell them

Function = Callable[[Array], Array]  # of singular values, each for itself; 0 stands for what is not measured


@runtime_checkable
class Spectrum(Protocol):
  """Functions of a linear operator."""

  @property
  def singular(self) -> Float[Array, " rank"]:
    """Singular values above zero, each as often as it occurs."""
    ...

  def apply(self, f: Function, x: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """Return V f(s) V^T x; what is not measured is multiplied by f(0)."""
    ...

  def left(self, f: Function, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *measured"]:
    """Return U f(s) U^T y; what no example can cause is multiplied by f(0)."""
    ...

  def inverse(self, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *event"]:
    """Return the pseudo-inverse applied to y."""
    ...


@registered("operator", static=())
@dataclasses.dataclass(frozen=True)
class TightSpectrum:
  """Functions of an operator with orthogonal rows of one length.

  Attributes:
    operator: the operator.
  """

  operator: Any  # a TightOperator

  @property
  def singular(self) -> Float[Array, " rank"]:
    return jnp.full(math.prod(self.operator.measured), math.sqrt(self.operator.gain))

  @property
  def _value(self) -> Float[Array, ""]:
    return jnp.asarray(math.sqrt(self.operator.gain))

  def apply(self, f: Function, x: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    seen, unseen = f(self._value), f(jnp.zeros(()))
    return unseen * x + (seen - unseen) * self.inverse(self.operator.forward(x))

  def left(self, f: Function, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *measured"]:
    return f(self._value) * y

  def inverse(self, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *event"]:
    return self.operator.adjoint(y) / self.operator.gain


@registered("u", "singular", "v", static=("event", "measured"))
@dataclasses.dataclass(frozen=True)
class DenseSpectrum:
  """Functions of an operator by its decomposed matrix.

  Attributes:
    u: left singular vectors.
    singular: singular values above zero.
    v: right singular vectors.
    event: shape of an example.
    measured: shape of its measurement.
  """

  u: Leaf  # Float[Array, "rows rank"]
  singular: Leaf  # Float[Array, " rank"]
  v: Leaf  # Float[Array, "dims rank"]
  event: tuple[int, ...]
  measured: tuple[int, ...]

  def apply(self, f: Function, x: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    return _scaled(f, self.singular, self.v, x)

  def left(self, f: Function, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *measured"]:
    return _scaled(f, self.singular, self.u, y)

  def inverse(self, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *event"]:
    return ((y.reshape(len(y), -1) @ self.u) / self.singular @ self.v.T).reshape(len(y), *self.event)


def _scaled(f: Function, singular: Float[Array, " rank"], vectors: Float[Array, "dims rank"],
            x: Float[Array, "batch *shape"]) -> Float[Array, "batch *shape"]:
  flat, rest = x.reshape(len(x), -1), f(jnp.zeros(()))
  return (rest * flat + ((f(singular) - rest) * (flat @ vectors)) @ vectors.T).reshape(x.shape)


def spectrum_of(operator: LinearOperator) -> Spectrum:
  """Return the functions of a linear operator.

  Raise SpecError where it must be decomposed as a matrix, and is too large for that.
  """
  if isinstance(operator, TightOperator):
    return TightSpectrum(operator)
  num_dims, num_rows = math.prod(operator.event), math.prod(operator.measured)
  if max(num_dims, num_rows) > MAX_DENSE_DIMS:
    raise SpecError(f"{type(operator).__name__} measures {num_rows} numbers of {num_dims}; its singular values are "
                    f"found for at most {MAX_DENSE_DIMS}. Choose a method that needs none (dps), or smaller images.")
  matrix = np.asarray(matrix_of(operator), np.float64)
  u, s, vt = np.linalg.svd(matrix, full_matrices=False)
  kept = s > _RELATIVE_CUTOFF * max(s.max(initial=0.0), np.finfo(np.float32).tiny)
  return DenseSpectrum(*(jnp.asarray(each, jnp.float32) for each in (u[:, kept], s[kept], vt[kept].T)),
                       tuple(operator.event), tuple(operator.measured))


def matrix_of(operator: LinearOperator) -> Float[Array, "rows dims"]:
  """Return an operator as a matrix of flattened examples."""
  basis = jnp.eye(math.prod(operator.event)).reshape(-1, *operator.event)
  return jax.jit(operator.forward)(basis).reshape(len(basis), -1).T
