"""Bijections that only change the order of an example's entries."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm.flows.bijections.bijection import Bijection, Transformed


class Permutation(Bijection):
  """A fixed random order.

  Attributes:
    seed: of the order.
    whole: permute all entries of an event, and not only its last axis.
  """

  seed: int = 0
  whole: bool = False

  def order(self, size: int) -> Int[np.ndarray, " size"]:
    """Source of each entry of the output."""
    return np.random.default_rng(self.seed).permutation(size)

  def forward(self, x, context=None):
    order = self.order(math.prod(x.shape[1:]) if self.whole else x.shape[-1])
    return Transformed(reorder(x, order, self.whole), jnp.zeros(x.shape[0], x.dtype))

  def inverse(self, y, context=None):
    order = np.argsort(self.order(math.prod(y.shape[1:]) if self.whole else y.shape[-1]))
    return Transformed(reorder(y, order, self.whole), jnp.zeros(y.shape[0], y.dtype))


class Reverse(Permutation):
  """The last entry first: what MAF puts between its layers.

  Attributes:
    whole: reverse all entries of an event, and not only its last axis.
  """

  def order(self, size):
    return np.arange(size)[::-1]


def reorder(x: Float[Array, "batch *event"], order: Int[np.ndarray, " size"],
            whole: bool) -> Float[Array, "batch *event"]:
  """Return the entries of each example in another order, of the last axis or of the flattened event."""
  flat = x.reshape(x.shape[0], -1) if whole else x
  return flat[..., order].reshape(x.shape)
