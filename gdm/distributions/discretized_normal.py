"""Normals over integer levels, in nats: the decoder of DDPM (Ho et al., arXiv:2006.11239, equation 13).

Levels 0, ..., L - 1 lie evenly in [-1, 1]; the probability of a level is the integral of the density over its bin,
which reaches half way to its neighbours, and the outermost bins reach to infinity. So all levels together have
probability one.
"""

import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Num


def log_bin(means: Float[Array, "..."], log_scales: Float[Array, "..."], x: Num[Array, "..."],
            levels: int) -> Float[Array, "..."]:
  """Return the log-probability of level x under one normal; the arguments broadcast.

  A bin (a, b) in units of the scale has Phi(b) - Phi(a) = Phi(b) (1 - e^(log Phi(a) - log Phi(b))), computed from
  logarithms and in the lower tail, where they keep their digits: a bin above the mean is mirrored.

  Args:
    means: of the normals, in the unit of [-1, 1].
    log_scales: log standard deviations in the same unit.
    x: levels in [0, levels).
    levels: number of levels, at least 2.
  """
  x = jnp.asarray(x, jnp.int32)  # uint8 would overflow
  # An edge is computed alike as the upper one of a level and the lower one of the next, so that their sum telescopes.
  inverse = jnp.exp(-log_scales)
  lower = ((2 * x - levels).astype(means.dtype) / (levels - 1) - means) * inverse
  upper = ((2 * (x + 1) - levels).astype(means.dtype) / (levels - 1) - means) * inverse
  mirrored = lower + upper > 0.0
  log_below = log_ndtr(jnp.where(mirrored, -upper, lower))
  log_above = log_ndtr(jnp.where(mirrored, -lower, upper))
  gap = jnp.maximum(log_above - log_below, jnp.finfo(means.dtype).tiny)
  inside = log_above + jnp.log(-jnp.expm1(-gap))
  return jnp.where(x <= 0, log_ndtr(upper), jnp.where(x >= levels - 1, log_ndtr(-lower), inside))
