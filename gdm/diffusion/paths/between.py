"""A part of a path: the same noise, between other times."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from gdm.diffusion.paths.path import Level, Path


@dataclasses.dataclass(frozen=True)
class Between:
  """`path` from time `first` to `last`."""

  path: Path
  first: float
  last: float

  @property
  def ends(self) -> tuple[float, float]:
    return (self.first, self.last)

  def alpha(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self.path.alpha(t)

  def sigma(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self.path.sigma(t)

  def log_snr(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self.path.log_snr(t)

  def log_snr_rate(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self.path.log_snr_rate(t)

  def time(self, log_snr: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self.path.time(log_snr)

  def level(self, t: Float[ArrayLike, "*shape"]) -> Level:
    return self.path.level(t)

  def drift(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self.path.drift(t)

  def diffusion(self, t: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return self.path.diffusion(t)


def from_log_snr(path: Path, log_snr: float) -> Between:
  """The path from the time of a log-SNR on; all of it where it has no such time."""
  with jax.ensure_compile_time_eval():
    start, end = path.ends
    first = float(path.time(jnp.asarray(min(log_snr, float(path.log_snr(jnp.asarray(start)))))))
  return Between(path, min(max(first, start), end), end)
