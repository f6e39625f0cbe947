"""The variational bound's three parts, each in nats of an example (Kingma et al., arXiv:2107.00630, equation 11).

-log p(x) <= prior + diffusion + reconstruction. Each is for a model to estimate with one draw of noise and time, or
more.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm.diffusion.paths.path import Path, prior_scale
from gdm.diffusion.weightings import VLB


def prior_loss(path: Path, data: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """KL(q(x_1 | x) || N(0, prior_scale^2)) at the path's last time."""
  end = jnp.asarray(path.ends[1], data.dtype)
  scale = prior_scale(path).astype(data.dtype)
  variance = (path.sigma(end) / scale) ** 2
  return 0.5 * _total((path.alpha(end) / scale * data) ** 2 + variance - 1.0 - jnp.log(variance))


def squared_error(path: Path, t: Float[Array, " batch"], noise: Float[Array, "batch *event"],
                  predicted: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """||noise - predicted||^2, less what is known of it: the same mean over the noise, with less spread.

  Where there is little noise it cannot be told from the data, and the error is about ||noise||^2, a draw of mean D.
  Of normal data with variance one the part of it is SNR^2 / (1 + SNR)^2; so much of ||noise||^2 - D is subtracted, a
  control variate.
  """
  part = jax.nn.sigmoid(path.log_snr(t)) ** 2
  return _total((noise - predicted) ** 2) - part * _total(noise**2 - 1.0)


def diffusion_loss(path: Path, t: Float[Array, " batch"], noise: Float[Array, "batch *event"],
                   predicted: Float[Array, "batch *event"],
                   density: Float[Array, " batch"] | float = 1.0) -> Float[Array, " batch"]:
  """An unbiased estimate of the continuous-time diffusion loss by one time each, drawn from `density` (equation 17)."""
  return VLB()(path, t) / density * squared_error(path, t, noise, predicted)


def step_loss(path: Path, s: Float[Array, " batch"], t: Float[Array, " batch"], noise: Float[Array, "batch *event"],
              predicted: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """The term of one step from t to s < t in discrete time (equation 13)."""
  return 0.5 * jnp.expm1(path.log_snr(s) - path.log_snr(t)) * squared_error(path, t, noise, predicted)


def reconstruction_loss(path: Path, data: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """-log N(data; x / alpha, (sigma / alpha)^2) of real data, its mean over x at the path's first time.

  It does not depend on the data: the scaled error is the noise.
  """
  start = jnp.asarray(path.ends[0], data.dtype)
  num_dims = math.prod(data.shape[1:])
  return jnp.full(data.shape[0], 0.5 * num_dims * (1.0 - path.log_snr(start) + math.log(2.0 * math.pi)), data.dtype)


def discrete_reconstruction_loss(path: Path, x: Float[Array, "batch *event"], data: Int[Array, "batch *event"],
                                 values: Float[Array | np.ndarray, " levels"]) -> Float[Array, " batch"]:
  """-log p(data | x) of integers, given x at the path's first time (arXiv:2107.00630, appendix B.1's decoder).

  p(k | x) is proportional to exp(-SNR / 2 (x / alpha - values[k])^2), independently of each dimension.

  Args:
    path: whose first log-SNR is finite.
    x: noised values.
    data: integers in [0, levels).
    values: the real number that stands for each level.
  """
  start = jnp.asarray(path.ends[0], x.dtype)
  logits = -0.5 * jnp.exp(path.log_snr(start)) * (x[..., None] / path.alpha(start) - jnp.asarray(values, x.dtype)) ** 2
  log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), data[..., None], axis=-1)
  return -_total(log_probs[..., 0])


def _total(values: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  return jnp.sum(values.reshape(values.shape[0], -1), axis=-1)
