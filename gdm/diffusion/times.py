"""Which times a loss looks at: quantile functions of a density over a path's times, at random or stratified ranks.

The mean of f(t) / density(t) over the draws is an integral of f over the path's times, whatever draws them.
"""

import dataclasses
import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Key

from gdm.diffusion.paths.discrete import require_steps
from gdm.diffusion.paths.path import Path
from gdm.errors import ConfigError, nearest


class Draw(NamedTuple):
  """Times, and the density over [0, 1] that they were drawn from."""

  t: Float[Array, " batch"]
  density: Float[Array, " batch"]


@runtime_checkable
class Times(Protocol):
  """A distribution of times."""

  def at(self, path: Path, rank: Float[Array, " batch"]) -> Draw:
    """The times below which a fraction `rank`, in [0, 1], of all are."""
    ...


@dataclasses.dataclass(frozen=True)
class Uniform:
  """Evenly between the path's ends."""

  def at(self, path: Path, rank: Float[Array, " batch"]) -> Draw:
    start, end = path.ends
    return Draw(start + (end - start) * rank, jnp.full_like(rank, 1.0 / (end - start)))


@dataclasses.dataclass(frozen=True)
class DiscreteUniform:
  """One of i / T, i = 1 to T, each as often."""

  num_steps: int

  def __post_init__(self) -> None:
    require_steps(self.num_steps)

  def at(self, path: Path, rank: Float[Array, " batch"]) -> Draw:
    step = jnp.clip(jnp.floor(rank * self.num_steps), 0, self.num_steps - 1) + 1.0
    return Draw(step / self.num_steps, jnp.ones_like(rank))


@dataclasses.dataclass(frozen=True)
class Levels:
  """One of `num` times from end to end of the path, both included, each as often."""

  num: int

  def __post_init__(self) -> None:
    if self.num < 2:
      raise ConfigError(f"num of levels is {self.num}; it must be at least 2, the path's ends.")

  def at(self, path: Path, rank: Float[Array, " batch"]) -> Draw:
    level = jnp.clip(jnp.floor(rank * self.num), 0, self.num - 1)
    start, end = path.ends
    return Draw(start + (end - start) * level / (self.num - 1), jnp.ones_like(rank))


@dataclasses.dataclass(frozen=True)
class LogSNRUniform:
  """Evenly in log-SNR: density proportional to g^2 / sigma^2 = -lambda'.

  It is the importance sampling of the likelihood weighting (Song et al., arXiv:2101.09258, section 4.3).
  """

  def at(self, path: Path, rank: Float[Array, " batch"]) -> Draw:
    first, last = (path.log_snr(jnp.asarray(end, rank.dtype)) for end in path.ends)
    t = jnp.clip(path.time(first + (last - first) * rank), *path.ends)
    return Draw(t, path.log_snr_rate(t) / (last - first))


@dataclasses.dataclass(frozen=True)
class LogNormal:
  """log(sigma / alpha) is normal, cut off at the path's ends (arXiv:2206.00364, table 1 and section 5).

  EDM leaves the density in its loss, as a part of the weighting: it does not divide by it.
  """

  mean: float = -1.2
  std: float = 1.2

  def __post_init__(self) -> None:
    if not (self.std > 0.0 and math.isfinite(self.mean)):
      raise ConfigError(f"mean is {self.mean} and std is {self.std} of the log of sigma; std must be above 0.")

  def at(self, path: Path, rank: Float[Array, " batch"]) -> Draw:
    low, high = (self._z(path, jnp.asarray(end, rank.dtype)) for end in path.ends)
    inside = ndtr(low) + (ndtr(high) - ndtr(low)) * rank
    z = jnp.clip(ndtri(inside), low, high)
    t = jnp.clip(path.time(-2.0 * (self.mean + self.std * z)), *path.ends)
    density = norm.pdf(z) / (ndtr(high) - ndtr(low)) * -path.log_snr_rate(t) / (2.0 * self.std)
    return Draw(t, density)

  def _z(self, path: Path, t: Float[Array, ""]) -> Float[Array, ""]:
    return (-0.5 * path.log_snr(t) - self.mean) / self.std


TIMES: dict[str, type] = {"uniform": Uniform, "discrete": DiscreteUniform, "levels": Levels,
                          "vlb_importance": LogSNRUniform, "log_normal": LogNormal}


def times(name: str, **fields: Any) -> Times:
  """The distribution of times called `name` with these fields; a ConfigError names the nearest known one."""
  if name not in TIMES:
    raise ConfigError(f"times is {name!r}; {nearest(name, TIMES)}")
  return TIMES[name](**fields)


def random_ranks(key: Key[Array, ""], num: int) -> Float[Array, " num"]:
  """Independent ranks."""
  return jax.random.uniform(key, (num,))


def low_discrepancy_ranks(key: Key[Array, ""], num: int) -> Float[Array, " num"]:
  """One in each of `num` equal parts, by one offset for all (arXiv:2107.00630, appendix I.1); in random order.

  The order is random lest examples of a sorted batch always see the same times.
  """
  offset_key, order_key = jax.random.split(key)
  ranks = (jax.random.uniform(offset_key) + jnp.arange(num)) / num
  return jax.random.permutation(order_key, ranks)


RANKS = {"random": random_ranks, "low_discrepancy": low_discrepancy_ranks}


def draw(distribution: Times, path: Path, key: Key[Array, ""], num: int, ranks: str = "low_discrepancy") -> Draw:
  """`num` times of a distribution, at ranks that are "random" or "low_discrepancy"."""
  if ranks not in RANKS:
    raise ConfigError(f"ranks is {ranks!r}; {nearest(ranks, RANKS)}")
  return distribution.at(path, RANKS[ranks](key, num))
