"""Dequantization: noise that makes integers real numbers, so that a density bounds their probability.

With noise u in [0, 1)^D of density q(u | x), log P(x) >= E[log p(x + u) - log q(u | x)] (Theis et al.,
arXiv:1511.01844, section 3.1; Ho et al., arXiv:1902.00275, equation 12), and the mean of p(x + u) / q(u | x) over
several draws is unbiased for P(x): its logarithm is a tighter bound.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from gdm import checks
from gdm.flows.bijections.elementwise import total
from gdm.flows.bijections.transforms import Affine
from gdm.networks.mlp import MLP
from gdm.networks.residual_convolution import ResidualConvolution


class UniformNoise(nn.Module):
  """The same noise everywhere (Uria et al., arXiv:1306.0186): density one."""

  def __call__(self, x):
    return jax.random.uniform(self.make_rng("noise"), x.shape, x.dtype), jnp.zeros(x.shape[0], x.dtype)


class VariationalNoise(nn.Module):
  """Noise that a flow makes of normals, given the values (Ho et al., arXiv:1902.00275, section 3.1).

  u = sigmoid(couplings(e; x)): every second entry at a time moves, given the others and all of x. At the start u is
  sigmoid(`SPREAD` e), which is close to uniform.

  Attributes:
    hidden: units of its networks.
    num_couplings: affine couplings, at least 2.
  """

  hidden: int = 32
  num_couplings: int = 4

  @nn.compact
  def __call__(self, x):
    e = jax.random.normal(self.make_rng("noise"), x.shape, x.dtype)
    log_q = total(jax.scipy.stats.norm.logpdf(e)) - math.prod(x.shape[1:]) * math.log(SPREAD)
    y, affine = SPREAD * e, Affine()
    for i in range(self.num_couplings):
      moves = _every_second(x.shape[1:], i % 2)
      parameters = self.parameters(jnp.where(moves, 0.0, y), x, i)
      made, log_det = affine.forward(y, parameters)
      y = jnp.where(moves, made, y)
      log_q = log_q - total(jnp.where(moves, log_det, 0.0))
    log_q = log_q - total(jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y))
    # A sigmoid that rounds to 0 or 1 would put the value on another's ground.
    edge = jnp.finfo(x.dtype).eps
    return jnp.clip(jax.nn.sigmoid(y), edge, 1.0 - edge), log_q

  def parameters(self, seen: Float[Array, "batch *event"], x: Float[Array, "batch *event"],
                 i: int) -> Float[Array, "batch *event 2"]:
    """Shift and scale of each entry; images go through convolutions."""
    if x.ndim == 4:
      channels = x.shape[-1]
      network = ResidualConvolution(2 * channels, self.hidden, 1, activation="silu", name=f"network_{i}")
      return network(jnp.concatenate([seen, x], axis=-1)).reshape(*x.shape[:-1], 2, channels).swapaxes(-1, -2)
    size = math.prod(x.shape[1:])
    network = MLP(2 * size, (self.hidden, self.hidden), num_parameters=2, activation="silu", name=f"network_{i}")
    both = jnp.concatenate([seen.reshape(-1, size), x.reshape(-1, size)], axis=-1)
    return jnp.moveaxis(network(both).reshape(*x.shape[:1], 2, *x.shape[1:]), 1, -1)


# A logistic has the standard deviation pi / sqrt(3); normals of nearly that make sigmoids nearly uniform.
SPREAD = 1.7


def dequantized(x: Num[Array | np.ndarray, "batch *event"],
                noise: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
  """Return integers with noise, each within its own cell and off both of its ends, which a logit maps to infinity.

  Uniform noise may be 0, and 255 plus the largest below 1 would round to 256.
  """
  x = jnp.asarray(x, noise.dtype)
  least = 0.5 * jnp.finfo(noise.dtype).eps  # draws are multiples of eps
  return jnp.minimum(x + jnp.maximum(noise, least), jnp.nextafter(x + 1.0, x))


# By the units of their networks, where they have any.
DEQUANTIZERS: dict[str, Callable[[int], nn.Module]] = {"uniform": lambda hidden: UniformNoise(),
                                                       "variational": VariationalNoise}


def dequantizer(name: str, hidden: int) -> nn.Module:
  """Return the dequantizer called `name`; a ConfigError names the nearest known one."""
  checks.one_of("dequantization", name, DEQUANTIZERS)
  return DEQUANTIZERS[name](hidden)


def _every_second(event: tuple[int, ...], odd: int) -> Bool[np.ndarray, "*event"]:
  """Return a checkerboard over all axes."""
  return np.indices(event).sum(axis=0) % 2 == odd
