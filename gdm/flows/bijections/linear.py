"""Invertible linear maps of the last axis: Glow's 1x1 convolutions, for images and vectors alike.

Kingma & Dhariwal, arXiv:1807.03039, section 3.2. The log-det of the matrix counts once for each pixel.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.flows.bijections.bijection import Bijection, Transformed


def random_rotation(key: Key[Array, ""], size: int) -> Float[Array, "size size"]:
  """Return a uniformly distributed orthogonal matrix."""
  return jax.random.orthogonal(key, size)


class InvertibleLinear(Bijection):
  """y = x W with any invertible W, at first a random rotation.

  W may come near to a singular matrix in training; `LULinear` stays away from them.

  Example:
    layer, x = InvertibleLinear(), jax.random.normal(key, (16, 4))
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
    x = layer.apply(variables, y, method="inverse").value
  """

  @nn.compact
  def matrix(self, size: int) -> Float[Array, "size size"]:
    """W."""
    return self.param("matrix", random_rotation, size)

  def forward(self, x, context=None):
    w = self.matrix(x.shape[-1])
    return Transformed(product(x, w), per_pixel(jnp.linalg.slogdet(at_least_float32(w))[1], x))

  def inverse(self, y, context=None):
    w = at_least_float32(self.matrix(y.shape[-1]))
    # W is small and the pixels are many: one inverse, one product.
    inverse = jnp.linalg.solve(w, jnp.eye(y.shape[-1], dtype=w.dtype))
    return Transformed(product(y, inverse), per_pixel(-jnp.linalg.slogdet(w)[1], y))


class LULinear(Bijection):
  """y = x W with W = P L (U + diag(exp(log s))): the log-det is a sum, the inverse takes two triangular solves.

  P is a fixed permutation, L has a unit diagonal, U has none. The signs of s are fixed at +1: the start is an
  orthogonal matrix, random but for the order and the signs of its rows, which make its pivots come first and positive.

  Attributes:
    seed: of P.

  Example:
    layer, x = LULinear(), jax.random.normal(key, (16, 4))
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
    x = layer.apply(variables, y, method="inverse").value
  """

  seed: int = 0

  @nn.compact
  def factors(self, size: int) -> Float[Array, "size size"]:
    """L below the diagonal, log s on it, U above."""
    return self.param("factors", lu_of_rotation, size)

  def triangles(self, size: int) -> tuple[Float[Array, "size size"], Float[Array, "size size"]]:
    """L and U + diag(s), whole."""
    factors = self.factors(size)
    return (jnp.tril(factors, -1) + jnp.eye(size, dtype=factors.dtype),
            jnp.triu(factors, 1) + jnp.diag(jnp.exp(jnp.diagonal(factors))))

  def order(self, size: int) -> np.ndarray:
    """P, as the row of L that each row of P L is."""
    return np.random.default_rng(self.seed).permutation(size)

  def matrix(self, size: int) -> Float[Array, "size size"]:
    """W."""
    lower, upper = self.triangles(size)
    return lower[self.order(size)] @ upper

  def forward(self, x, context=None):
    size = x.shape[-1]
    return Transformed(product(x, self.matrix(size)), per_pixel(jnp.trace(self.factors(size)), x))

  def inverse(self, y, context=None):
    size = y.shape[-1]
    lower, upper = (at_least_float32(triangle) for triangle in self.triangles(size))
    permuted = jnp.eye(size, dtype=lower.dtype)[:, self.order(size)]  # the transpose of P
    solved = jax.scipy.linalg.solve_triangular(lower, permuted, lower=True, unit_diagonal=True)
    inverse = jax.scipy.linalg.solve_triangular(upper, solved)
    return Transformed(product(y, inverse), per_pixel(-jnp.trace(self.factors(size)), y))


def lu_of_rotation(key: Key[Array, ""], size: int) -> Float[Array, "size size"]:
  """L, log s and U in one matrix, of a random rotation whose rows are put in pivots' order and have positive pivots."""
  _, lower, upper = jax.scipy.linalg.lu(random_rotation(key, size))
  pivots = jnp.diagonal(upper)
  signs = jnp.sign(pivots)
  # With S = diag(signs): S L (diag(pivots) + U) = (S L S) (diag(|pivots|) + S U).
  return (jnp.tril(signs[:, None] * lower * signs, -1) + jnp.triu(signs[:, None] * upper, 1)
          + jnp.diag(jnp.log(jnp.abs(pivots))))


def at_least_float32(w: Float[Array, "size size"]) -> Float[Array, "size size"]:
  """w in a type that LAPACK has."""
  return w.astype(jnp.promote_types(w.dtype, jnp.float32))


def product(x: Float[Array, "batch *shape size"], w: Float[Array, "size size"]) -> Float[Array, "batch *shape size"]:
  """x W, over one flattened batch axis: the weight gradient of two runs through transposed copies on a CPU."""
  return (x.reshape(-1, x.shape[-1]) @ w.astype(x.dtype)).reshape(x.shape)


def per_pixel(log_det: Float[Array, ""], x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """Return the log-det of each example, given that of one pixel."""
  return jnp.full(x.shape[0], math.prod(x.shape[1:-1]) * log_det, x.dtype)
