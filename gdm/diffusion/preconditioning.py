"""EDM's preconditioning: what is put around a network so that its inputs and targets have variance one.

D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (Karras et al., arXiv:2206.00364, equation 7 and table 1), of the path
with alpha = 1. Of another path, x / alpha and sigma / alpha take the place of x and sigma.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks


class Coefficients(NamedTuple):
  """Of one noise level each."""

  skip: Float[Array, "*shape"]
  out: Float[Array, "*shape"]
  into: Float[Array, "*shape"]
  noise: Float[Array, "*shape"]


@dataclasses.dataclass(frozen=True)
class Preconditioning:
  """Of data with standard deviation `sigma_data`."""

  sigma_data: float = 0.5

  def __post_init__(self) -> None:
    checks.positive("sigma_data", self.sigma_data, "(the data's standard deviation)")

  def coefficients(self, sigma: Float[Array, "*shape"]) -> Coefficients:
    """c_skip, c_out, c_in and c_noise; sigma is above 0."""
    norm = jnp.hypot(sigma, self.sigma_data)
    skip, out = (self.sigma_data / norm) ** 2, sigma * self.sigma_data / norm
    return Coefficients(skip, out, 1.0 / norm, 0.25 * jnp.log(sigma))

  def data(self, sigma: Float[Array, "..."], x: Float[Array, "*shape"],
           output: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the denoised x of the network's output; sigma is a scalar or shaped to multiply x."""
    skip, out, _, _ = self.coefficients(sigma)
    return skip * x + out * output

  def target(self, sigma: Float[Array, "..."], x: Float[Array, "*shape"],
             data: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the network's target at x (equation 8)."""
    skip, out, _, _ = self.coefficients(sigma)
    return (data - skip * x) / out


@dataclasses.dataclass(frozen=True)
class Preconditioned:
  """A preconditioned network's output as a `Prediction` of any path (gdm/diffusion/predictions.py).

  Attributes:
    sigma_data: standard deviation of the values.
  """

  sigma_data: float = 0.5

  def __post_init__(self) -> None:
    _ = self.around  # it checks its field

  @property
  def around(self) -> Preconditioning:
    return Preconditioning(self.sigma_data)

  def target(self, level, data, noise):
    x = (level.alpha * data + level.sigma * noise) / level.alpha
    return self.around.target(level.sigma / level.alpha, x, data)

  def data(self, level, x, value):
    return self.around.data(level.sigma / level.alpha, x / level.alpha, value)

  def noise(self, level, x, value):
    return (x - level.alpha * self.data(level, x, value)) / level.sigma

  def noise_scale(self, level):
    sigma = level.sigma / level.alpha
    return sigma / self.around.coefficients(sigma).out
