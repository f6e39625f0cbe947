"""A part of a path: the same noise, between other times."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from gdm.diffusion.paths.path import Level, NoisePath, Time


@dataclasses.dataclass(frozen=True)
class Between:
  """`path` from time `first` to `last`."""

  path: NoisePath
  first: Time
  last: Time

  @property
  def ends(self) -> tuple[Time, Time]:
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


def from_log_snr(path: NoisePath, log_snr: float) -> Between:
  """Return the path from the time of a log-SNR on; all of it where it has no such time."""
  return within(path, log_snr, -math.inf)


def within(path: NoisePath, most: float, least: float) -> Between:
  """Return the part of a path whose log-SNR is at most `most` and at least `least`.

  An end of the path that is already there stays as it is. A learned path's ends are traced where its parameters are.
  """
  with jax.ensure_compile_time_eval():  # a path without parameters has ends that are known, inside jax.jit too
    inside = tuple(_end(path, end, most, least) for end in path.ends)
  return Between(path, *inside)


def _end(path: NoisePath, end: Time, most: float, least: float) -> Time:
  log_snr = path.log_snr(jnp.asarray(end))
  nearest = jnp.clip(log_snr, least, most)
  if isinstance(log_snr, Tracer):
    return jnp.where(log_snr == nearest, end, path.time(nearest))
  return end if log_snr == nearest else float(path.time(nearest))
