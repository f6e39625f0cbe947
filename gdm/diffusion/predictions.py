"""Predictions of a network at x_t = alpha x_0 + sigma noise, and how one becomes another.

Data and noise follow from any of them and x_t; any of them follows from data and noise. Each formula divides only where
the prediction itself leaves open what is asked: the data of a noise prediction divides by alpha, the noise of a data
prediction by sigma; v and the velocity give both at both ends.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.dataspec import DataSpec
from gdm.diffusion.paths.path import Level, NoisePath


@runtime_checkable
class Prediction(Protocol):
  """A linear function of data and noise, which a network is trained to give at x_t.

  Levels are scalars or already shaped like x (`Level.like`).
  """

  def target(self, level: Level, data: Float[Array, "*shape"], noise: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the prediction of known data and noise."""
    ...

  def data(self, level: Level, x: Float[Array, "*shape"], value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the data at x_t."""
    ...

  def noise(self, level: Level, x: Float[Array, "*shape"], value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the noise at x_t."""
    ...

  def noise_scale(self, level: Level) -> Float[Array, "..."]:
    """|d value / d noise| at given x_t: an error of the prediction over the error of the noise that it implies."""
    ...


@runtime_checkable
class Parametrization(Protocol):
  """A map from the network's outputs to a prediction, where the two differ."""

  def outputs(self, spec: DataSpec) -> int:
    """Return how many numbers the network gives for each number of an example."""
    ...

  def value(self, path: NoisePath, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
            outputs: Float[Array, "batch *wide"]) -> Float[Array, "batch *event"]:
    """Return the prediction at x_t."""
    ...


class Noise:
  """The noise, epsilon (Ho et al., arXiv:2006.11239, section 3.2)."""

  def target(self, level, data, noise):
    return noise

  def data(self, level, x, value):
    return (x - level.sigma * value) / level.alpha

  def noise(self, level, x, value):
    return value

  def noise_scale(self, level):
    return jnp.ones_like(level.alpha)


class Data:
  """The data, x_0."""

  def target(self, level, data, noise):
    return data

  def data(self, level, x, value):
    return value

  def noise(self, level, x, value):
    return (x - level.alpha * value) / level.sigma

  def noise_scale(self, level):
    return level.sigma / level.alpha


class V:
  """v = alpha noise - sigma data (Salimans & Ho, arXiv:2202.00512, appendix D), of any path."""

  def target(self, level, data, noise):
    return level.alpha * noise - level.sigma * data

  def data(self, level, x, value):
    return (level.alpha * x - level.sigma * value) / _variance(level)

  def noise(self, level, x, value):
    return (level.sigma * x + level.alpha * value) / _variance(level)

  def noise_scale(self, level):
    return _variance(level) / level.alpha


class Score:
  """The gradient of log p(x_t), -noise / sigma (Song & Ermon, arXiv:1907.05600, section 3.2)."""

  def target(self, level, data, noise):
    return -noise / level.sigma

  def data(self, level, x, value):
    return (x + level.sigma**2 * value) / level.alpha

  def noise(self, level, x, value):
    return -level.sigma * value

  def noise_scale(self, level):
    return 1.0 / level.sigma


class Velocity:
  """dx_t / dt = alpha' data + sigma' noise (Lipman et al., arXiv:2210.02747, equation 8); needs a level's rates."""

  def target(self, level, data, noise):
    return level.alpha_rate * data + level.sigma_rate * noise

  def data(self, level, x, value):
    return (level.sigma_rate * x - level.sigma * value) / self._determinant(level)

  def noise(self, level, x, value):
    return (level.alpha * value - level.alpha_rate * x) / self._determinant(level)

  def noise_scale(self, level):
    return self._determinant(level) / level.alpha

  def _determinant(self, level):
    return level.alpha * level.sigma_rate - level.sigma * level.alpha_rate


PREDICTIONS: dict[str, Prediction] = {"noise": Noise(), "data": Data(), "v": V(), "score": Score(),
                                      "velocity": Velocity()}


# (x_t [batch, *event], t [batch]) -> the prediction of x_0 [batch, *event].
Denoise = Callable[[Float[Array, "batch *event"], Float[Array, " batch"]], Float[Array, "batch *event"]]


def denoiser(source: Prediction, path: NoisePath, function: Denoise) -> Denoise:
  """Return the denoising function of a function (x_t, t) that predicts something else.

  Example:
    path, x = VPLinear(), jax.random.normal(key, (16, 4))
    # sigma x is the mean of the noise given x_t where data are standard normal.
    denoise = denoiser(PREDICTIONS["noise"], path, lambda x, t: path.sigma(t)[:, None] * x)
    data = denoise(x, jnp.full(16, 0.5))
  """
  def denoise(x, t):
    return source.data(path.level(t).like(x), x, function(x, t))

  return denoise


def _variance(level):
  return level.alpha**2 + level.sigma**2
