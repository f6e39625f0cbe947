"""The interface of bijections, and bijections made of others: one after the other, or backwards.

A bijection is a Flax module with two methods, `forward` and `inverse`. Throughout, forward leads from the data to the
base distribution, so that the density of x is log p(x) = log p_base(y) + log |det dy/dx| with (y, log det) = forward(x)
(Rezende & Mohamed, arXiv:1505.05770, equation 5).

Initialization runs `forward` on a batch of data, so a module whose parameters start from the data sees what the ones
before it made of them. Batch statistics live in the collection "statistics": a module is in training where that
collection is mutable. Dropout is on where an rng named "dropout" is given.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

# Collections of a module: counts about a call that reports tell, and terms that training adds to its loss.
DETAILS, PENALTIES = "details", "penalties"


class Transformed(NamedTuple):
  """A value and, for each example, the log of the absolute Jacobian determinant of the map that made it, in nats."""

  value: Float[Array, "batch *event"]
  log_det: Float[Array, " batch"]


class Bijection(nn.Module, abc.ABC):
  """An invertible map of examples [batch, *event], each for itself, given an optional context [batch, width].

  Example:
    class Negation(Bijection):
      def forward(self, x, context=None):
        return Transformed(-x, jnp.zeros(len(x)))

      inverse = forward
  """

  @abc.abstractmethod
  def forward(self, x: Float[Array, "batch *event"],
              context: Float[Array, "batch width"] | None = None) -> Transformed:
    """Map data towards the base: y and log |det dy/dx| of each example."""

  @abc.abstractmethod
  def inverse(self, y: Float[Array, "batch *event"],
              context: Float[Array, "batch width"] | None = None) -> Transformed:
    """Map the base towards the data: x and log |det dx/dy| of each example."""

  def __call__(self, x: Float[Array, "batch *event"],
               context: Float[Array, "batch width"] | None = None) -> Transformed:
    """`forward`: what `init` runs."""
    return self.forward(x, context)


def in_training(module: nn.Module) -> bool:
  """Return whether a module is in training: where its call may change statistics and add penalties."""
  return module.is_mutable_collection(PENALTIES)


def is_estimated(module: Any) -> bool:
  """Return whether log-determinants of a bijection, or of one among its fields, are known to a tolerance or in
  expectation only: where its attribute `is_estimated` says so."""
  if getattr(module, "is_estimated", False):
    return True
  if isinstance(module, nn.Module):  # `parent` leads back to where the search came from
    return any(is_estimated(getattr(module, field.name)) for field in dataclasses.fields(module)
               if field.name not in ("parent", "name"))
  return isinstance(module, list | tuple) and any(map(is_estimated, module))


class Chain(Bijection):
  """Bijections one after the other; the first is the nearest to the data.

  Attributes:
    parts: the bijections; at least one.

  Example:
    chain, x = Chain([ActNorm(), LULinear()]), jax.random.normal(key, (16, 4))
    variables = chain.init(key, x)
    y, log_det = chain.apply(variables, x)
    x = chain.apply(variables, y, method="inverse").value
  """

  parts: Sequence[Bijection]

  def forward(self, x, context=None):
    total = jnp.zeros(x.shape[0], x.dtype)
    for part in self.parts:
      x, log_det = part.forward(x, context)
      total = total + log_det
    return Transformed(x, total)

  def inverse(self, y, context=None):
    total = jnp.zeros(y.shape[0], y.dtype)
    for part in reversed(self.parts):
      y, log_det = part.inverse(y, context)
      total = total + log_det
    return Transformed(y, total)


class Inverse(Bijection):
  """A bijection backwards: its forward is the other's inverse.

  Attributes:
    of: the bijection.

  Example:
    layer, x = Inverse(MaskedAutoregressive(Affine())), jax.random.normal(key, (16, 4))  # an IAF
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
  """

  of: Bijection

  def forward(self, x, context=None):
    return self.of.inverse(x, context)

  def inverse(self, y, context=None):
    return self.of.forward(y, context)
