"""Subsampled Fourier coefficients of images, as magnetic resonance measures them line by line.

A real image has F(-k) = conj F(k). Of each such pair one is measured, its real and its imaginary part times the root of
2; coefficients that are their own pair are real. So the rows are a part of an orthonormal basis.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.errors import ConfigError
from gdm.inverse.operators.operator import Leaf, registered, require_images

_CENTRE = 0.08  # share of the lines around frequency 0 that are always measured, as in arXiv:1811.08839, section 4.2


@registered("real", "imaginary", "weight")
@dataclasses.dataclass(frozen=True)
class Fourier:
  """Real and imaginary parts of some Fourier coefficients of each channel.

  Attributes:
    real: places of the coefficients whose real part is measured, in the flattened spectrum.
    imaginary: the same of the imaginary part.
    weight: factor of each real part: 1, or the root of 2 where it stands for a pair.
    event: shape of an example, (height, width, channels).
  """

  real: Leaf  # Int[Array, " reals"]
  imaginary: Leaf  # Int[Array, " imaginaries"]
  weight: Leaf  # Float[Array, " reals"]
  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int, int]:
    return (self.real.shape[0] + self.imaginary.shape[0], self.event[-1])

  @property
  def gain(self) -> float:
    return 1.0

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *measured"]:
    spectrum = jnp.fft.fft2(x, axes=(1, 2), norm="ortho").reshape(len(x), -1, self.event[-1])
    real = spectrum[:, self.real].real * self.weight[:, None]
    return jnp.concatenate([real, math.sqrt(2.0) * spectrum[:, self.imaginary].imag], axis=1)

  def adjoint(self, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *event"]:
    num = self.real.shape[0]
    height, width, channels = self.event
    spectrum = jnp.zeros((len(y), height * width, channels), jnp.complex64)
    spectrum = spectrum.at[:, self.real].add(y[:, :num] * self.weight[:, None])
    spectrum = spectrum.at[:, self.imaginary].add(1j * math.sqrt(2.0) * y[:, num:])
    return jnp.fft.ifft2(spectrum.reshape(len(y), *self.event), axes=(1, 2), norm="ortho").real


def fourier(event: tuple[int, ...], acceleration: float, seed: int = 0) -> Fourier:
  """Return the coefficients of about one in `acceleration` lines: those next to frequency 0, the others at random.

  Raise SpecError where the event is no image, ConfigError where the acceleration is below 1.

  Example:
    operator = fourier((8, 8, 1), acceleration=2.0)
    y = operator.forward(jnp.ones((16, 8, 8, 1)))  # [16, *operator.measured]
  """
  require_images(event, "fourier")
  if not 1.0 <= acceleration < math.inf:
    raise ConfigError(f"acceleration of fourier is {acceleration}; it must be at least 1: one in so many lines is "
                      "measured.")
  height, width, _ = event
  frequency = np.minimum(np.arange(height), height - np.arange(height))
  lines = np.arange(height // 2 + 1)  # line -k comes with line k
  chance = np.random.default_rng(seed).random(len(lines))
  order = np.argsort(np.where(lines <= _CENTRE * height / 2, -1.0, chance), kind="stable")
  shown = lines[order[:max(1, round(len(lines) / acceleration))]]
  row, column = (each.ravel() for each in np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
  place, other = row * width + column, (-row % height) * width + (-column % width)
  first = np.isin(frequency[row], shown) & (place <= other)
  pair = first & (place < other)
  weight = np.where(pair[first], math.sqrt(2.0), 1.0)
  return Fourier(jnp.asarray(place[first], jnp.int32), jnp.asarray(place[pair], jnp.int32),
                 jnp.asarray(weight, jnp.float32), tuple(event))
