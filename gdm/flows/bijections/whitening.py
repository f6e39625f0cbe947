"""Whitening as the first bijection of a flow: what it makes of the data is uncorrelated and of variance one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.distributions.moments import moments
from gdm.flows.bijections.bijection import Bijection, Transformed
from gdm.flows.bijections.normalization import require_two


def shrunken_covariance(x: Float[Array, "batch dims"]) -> Float[Array, "dims dims"]:
  """Return the covariance of `x`, which is centred, shrunk towards a multiple of the identity.

  As much as is best in mean square for independent examples (Ledoit and Wolf, 2004, "A well-conditioned estimator for
  large-dimensional covariance matrices", section 3.3): few examples in many dimensions shrink it much, many hardly.
  """
  num, dims = x.shape
  covariance = x.T @ x / num
  mean = jnp.trace(covariance) / dims
  target = mean * jnp.eye(dims, dtype=x.dtype)
  squared_norm = jnp.sum(jnp.square(covariance))
  distance = jnp.sum(jnp.square(covariance - target))
  # Mean squared error of the sample covariance: of its terms x x', over the examples.
  error = (jnp.mean(jnp.square(jnp.sum(jnp.square(x), axis=1))) - squared_norm) / num
  share = jnp.clip(error / jnp.maximum(distance, jnp.finfo(x.dtype).tiny), 0.0, 1.0)
  return (1.0 - share) * covariance + share * target


class Whiten(Bijection):
  """y = L^-1 (x - mean) for vectors, where L L' is at first the shrunken covariance of the data.

  A flow of bijections that begin as the identity is then a shrunken Gaussian before its first step, and has only to
  learn how the data differ from that. Parameters "mean" [dims] and "factor" [dims, dims]: L below the diagonal, and the
  logarithm of its diagonal on it.

  Example:
    layer, x = Whiten(), jax.random.normal(key, (16, 4))
    variables = layer.init(key, x)
    y, log_det = layer.apply(variables, x)
    x = layer.apply(variables, y, method="inverse").value
  """

  @nn.compact
  def parameters(self, x: Float[Array, "batch dims"]) -> tuple[Float[Array, " dims"], Float[Array, "dims dims"]]:
    """Return the mean, and L."""
    if self.is_initializing():
      require_two(x, "Whiten at its start")
    mean = self.param("mean", lambda _: moments(x).mean)
    factor = self.param("factor", lambda _: _factor(x))
    return mean, jnp.tril(factor, -1) + jnp.diag(jnp.exp(jnp.diagonal(factor)))

  def forward(self, x, context=None):
    mean, lower = self.parameters(x)
    y = jax.scipy.linalg.solve_triangular(lower, (x - mean).T, lower=True).T
    return Transformed(y, jnp.full(len(x), -jnp.sum(jnp.log(jnp.diagonal(lower))), x.dtype))

  def inverse(self, y, context=None):
    mean, lower = self.parameters(y)
    return Transformed(y @ lower.T + mean, jnp.full(len(y), jnp.sum(jnp.log(jnp.diagonal(lower))), y.dtype))


def _factor(x: Float[Array, "batch dims"]) -> Float[Array, "dims dims"]:
  """L of the shrunken covariance, in units of each dimension, with logarithms on the diagonal."""
  mean, scale, is_constant = moments(x)
  covariance = shrunken_covariance((x - mean) / scale) + jnp.diag(jnp.where(is_constant, 1.0, 0.0))
  lower = scale[:, None] * jnp.linalg.cholesky(covariance)
  return jnp.tril(lower, -1) + jnp.diag(jnp.log(jnp.diagonal(lower)))
