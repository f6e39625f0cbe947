"""Sliced score matching, and the pairing of noise with data in training."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from gdm.diffusion.paths.path import PathSample, expand, total

MATCHINGS = ("denoising", "sliced")


def sliced_error(predict_noise: Callable[[Array], Array], sample: PathSample,
                 key: Key[Array, ""]) -> Float[Array, " batch"]:
  """Return sigma^2 (v' J v + |s|^2 / 2) of the score s and a random direction v, a mean over dimensions.

  Sliced score matching with reduced variance (Song et al., arXiv:1905.07088, equation 8) at each noise level. The noise
  that was added is not used.

  Args:
    predict_noise: x_t -> the prediction of the noise, at the times of the sample.
    sample: noised data.
    key: of the directions, random signs.
  """
  probe = jax.random.rademacher(key, sample.x.shape, sample.x.dtype)
  sigma = expand(sample.level.sigma, sample.x)
  score, moved = jax.jvp(lambda x: -predict_noise(x) / sigma, (sample.x,), (probe,))
  along = total(probe * moved) / probe[0].size
  return sample.level.sigma**2 * (along + 0.5 * mean_square(score))


def mean_square(x: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
  """Return the mean over an example's entries of their squares."""
  return jnp.mean(x.reshape(x.shape[0], -1) ** 2, axis=-1)


def independent(data: Float[Array, "batch *event"],
                noise: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
  """Return the noise as it was drawn."""
  return noise


def optimal(data: Float[Array, "batch *event"], noise: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
  """Return the noise in the order that minimizes the squared distances to the data, by the Hungarian algorithm.

  Minibatch optimal transport (Tong et al., arXiv:2302.00482).
  """
  a, b = data.reshape(len(data), -1), noise.reshape(len(noise), -1)
  costs = jnp.sum(a**2, axis=1)[:, None] - 2.0 * a @ b.T + jnp.sum(b**2, axis=1)
  rows, columns = optax.assignment.hungarian_algorithm(costs)
  return noise[jnp.zeros_like(columns).at[rows].set(columns)]


COUPLINGS: dict[str, Callable[[Array, Array], Array]] = {"independent": independent, "optimal": optimal}
