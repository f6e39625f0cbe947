"""The variational bound's three parts, each in nats of an example (Kingma et al., arXiv:2107.00630, equation 11).

-log p(x) <= prior + diffusion + reconstruction. Each is estimated with one draw of noise and time, or more. A `Decoder`
is the p(data | x) of the reconstruction.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm.diffusion.paths.path import NoisePath, prior_scale, total
from gdm.distributions import discretized_normal
from gdm.errors import SpecError

# Levels from which integers are as real numbers for the control variate of the bound.
MIN_LEVELS = 64
# Levels can be told apart where this many standard deviations of the noise lie between two neighbouring ones.
SEPARATED = 4.0


def prior_loss(path: NoisePath, data: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """KL(q(x_1 | x) || N(0, prior_scale^2)) at the path's last time."""
  end = jnp.asarray(path.ends[1], data.dtype)
  scale = prior_scale(path).astype(data.dtype)
  variance = (path.sigma(end) / scale) ** 2
  return 0.5 * total((path.alpha(end) / scale * data) ** 2 + variance - 1.0 - jnp.log(variance))


def control_variate(path: NoisePath, t: Float[Array, " batch"], levels: int | None) -> Float[Array, " batch"]:
  """Return the coefficient c of the control variate at each time, by what kind of data it is.

  Where there is little noise it cannot be told from real data, and ||noise - predicted||^2 is about ||noise||^2, a draw
  of mean D. Of normal data with variance one the share of it is c = SNR^2 / (1 + SNR)^2; then c (||noise||^2 - D) is
  subtracted. Integers are told apart by little noise, and many of their dimensions follow from the others: there is
  less of the noise in the error, and the same c adds spread. So c is 0 below MIN_LEVELS levels, and with more where
  the noise leaves neighbouring levels apart.

  Measured: the variance at a given time, its mean over log-SNRs, divided by D, by a small trained network on examples
  held out (digits: 8 x 8 pixels) or the exact denoiser (moons on a grid of levels):

                           c = 0    Gaussian c    best c of each time
    two moons, real        1.22     0.13          0.13
    two moons, 128 levels  1.03     0.53          0.30    (0.44 with c = 0 where levels are told apart)
    two moons, 64 levels   1.00     0.63          0.39    (0.62)
    digits, 17 levels      0.62     0.86          0.46
    digits, 2 levels       0.24     0.39          0.20
  """
  gaussian = jax.nn.sigmoid(path.log_snr(t)) ** 2
  if levels is None:
    return gaussian
  if levels < MIN_LEVELS:
    return jnp.zeros_like(gaussian)
  spacing = 2.0 / (levels - 1)
  return jnp.where(path.log_snr(t) < 2.0 * math.log(SEPARATED / spacing), gaussian, 0.0)


def squared_error(path: NoisePath, t: Float[Array, " batch"], noise: Float[Array, "batch *event"],
                  predicted: Float[Array, "batch *event"], levels: int | None = None) -> Float[Array, " batch"]:
  """Return ||noise - predicted||^2 less a `control_variate`: the same mean over the noise, with no more spread.

  `levels` are the data's, None of real numbers; with fewer than MIN_LEVELS nothing is subtracted, so that the error of
  each draw is at least 0.
  """
  return total((noise - predicted) ** 2) - control_variate(path, t, levels) * total(noise**2 - 1.0)


def diffusion_loss(path: NoisePath, t: Float[Array, " batch"], noise: Float[Array, "batch *event"],
                   predicted: Float[Array, "batch *event"],
                   density: Float[Array, " batch"] | float = 1.0,
                   levels: int | None = None) -> Float[Array, " batch"]:
  """Return an unbiased estimate of the continuous-time diffusion loss by one time each, drawn from `density`
  (equation 17)."""
  return -0.5 * path.log_snr_rate(t) / density * squared_error(path, t, noise, predicted, levels)


def step_loss(path: NoisePath, s: Float[Array, " batch"], t: Float[Array, " batch"],
              noise: Float[Array, "batch *event"], predicted: Float[Array, "batch *event"],
              levels: int | None = None) -> Float[Array, " batch"]:
  """Return the term of one step from t to s < t in discrete time (equation 13)."""
  return 0.5 * jnp.expm1(path.log_snr(s) - path.log_snr(t)) * squared_error(path, t, noise, predicted, levels)


def reconstruction_loss(path: NoisePath, data: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """-log N(data; x / alpha, (sigma / alpha)^2) of real data, its mean over x at the path's first time.

  It does not depend on the data: the scaled error is the noise.
  """
  start = jnp.asarray(path.ends[0], data.dtype)
  num_dims = math.prod(data.shape[1:])
  return jnp.full(data.shape[0], 0.5 * num_dims * (1.0 - path.log_snr(start) + math.log(2.0 * math.pi)), data.dtype)


def level_log_probs(path: NoisePath, x: Float[Array, "batch *event"],
                    values: Float[Array | np.ndarray, " levels"]) -> Float[Array, "batch *event levels"]:
  """Return log p(k | x) of all levels, given x at the path's first time (arXiv:2107.00630, appendix B.1's decoder).

  p(k | x) is proportional to exp(-SNR / 2 (x / alpha - values[k])^2), independently of each dimension.

  Args:
    path: whose first log-SNR is finite.
    x: noised values.
    values: the real number that stands for each level.
  """
  start = jnp.asarray(path.ends[0], x.dtype)
  logits = -0.5 * jnp.exp(path.log_snr(start)) * (x[..., None] / path.alpha(start) - jnp.asarray(values, x.dtype)) ** 2
  return jax.nn.log_softmax(logits)


def discrete_reconstruction_loss(path: NoisePath, x: Float[Array, "batch *event"], data: Int[Array, "batch *event"],
                                 values: Float[Array | np.ndarray, " levels"]) -> Float[Array, " batch"]:
  """Return -log p(data | x) of integers by `level_log_probs`."""
  log_probs = jnp.take_along_axis(level_log_probs(path, x, values), data[..., None], axis=-1)
  return -total(log_probs[..., 0])


def discretized_gaussian_loss(mean: Float[Array, "batch *event"], log_variance: Float[Array, "batch *event"],
                              data: Int[Array, "batch *event"], levels: int) -> Float[Array, " batch"]:
  """Return -log p(data) of integers under a normal integrated over each level's bin (arXiv:2006.11239, equation 13).

  Args:
    mean: the prediction of the data, levels as points of [-1, 1].
    log_variance: of the normal.
    data: integers in [0, levels).
    levels: how many.
  """
  return -total(discretized_normal.log_bin(mean, 0.5 * log_variance, data, levels))


# Mean and log-variance [batch, *event] each of a normal around the data, as the network predicts them at x.
PredictNormal = Callable[[Array], tuple[Array, Array]]


@runtime_checkable
class Decoder(Protocol):
  """p(data | x), given x at the path's first time.

  Attributes:
    name: name of the reconstruction among the parts of the bound.
  """

  @property
  def name(self) -> str: ...

  def loss(self, path: NoisePath, x: Float[Array, "batch *event"], data: Float[Array, "batch *event"],
           served: Array | np.ndarray, levels: int | None, predict: PredictNormal) -> Float[Array, " batch"]:
    """Return -log p(data | x) in nats; `data` are values, `served` are the same examples as the data set has them."""
    ...

  def log_probs(self, path: NoisePath, x: Float[Array, "batch *event"], levels: int,
                predict: PredictNormal) -> Float[Array, "batch *event levels"]:
    """Return log p of every level of integers given x, in nats, by which `loss` scores them."""
    ...


@dataclasses.dataclass(frozen=True)
class PathDecoder:
  """p(data | x) in proportion to q(x | data), which uses no network: a normal of real data, a choice of levels."""

  name: str = "reconstruction"

  def loss(self, path: NoisePath, x: Float[Array, "batch *event"], data: Float[Array, "batch *event"],
           served: Array | np.ndarray, levels: int | None, predict: PredictNormal) -> Float[Array, " batch"]:
    if levels is None:
      return reconstruction_loss(path, data)
    return discrete_reconstruction_loss(path, x, jnp.asarray(served, jnp.int32), _values(levels))

  def log_probs(self, path: NoisePath, x: Float[Array, "batch *event"], levels: int,
                predict: PredictNormal) -> Float[Array, "batch *event levels"]:
    return level_log_probs(path, x, _values(levels))


@dataclasses.dataclass(frozen=True)
class DiscretizedGaussianDecoder:
  """A normal around the predicted data, integrated over each level's bin (arXiv:2006.11239, equation 13)."""

  name: str = "reconstruction_discretized_gaussian"

  def loss(self, path: NoisePath, x: Float[Array, "batch *event"], data: Float[Array, "batch *event"],
           served: Array | np.ndarray, levels: int | None, predict: PredictNormal) -> Float[Array, " batch"]:
    if levels is None:
      raise SpecError("decoder is 'discretized_gaussian', which is of integers, but the data is continuous ("
                      "spec.levels is None); set it to 'auto'.")
    mean, log_variance = predict(x)
    return discretized_gaussian_loss(mean, log_variance, jnp.asarray(served, jnp.int32), levels)

  def log_probs(self, path: NoisePath, x: Float[Array, "batch *event"], levels: int,
                predict: PredictNormal) -> Float[Array, "batch *event levels"]:
    mean, log_variance = (each[..., None] for each in predict(x))
    return discretized_normal.log_bin(mean, 0.5 * log_variance, jnp.arange(levels), levels)


def _values(levels: int) -> Float[np.ndarray, " levels"]:
  """Return the real number that stands for each level."""
  return np.linspace(-1.0, 1.0, levels, dtype=np.float32)
