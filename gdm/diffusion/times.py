"""Distributions of training's times: quantile functions of densities over a path, at stratified ranks.

The mean of f(t) / density(t) over the draws is an integral of f over the path's times, whatever draws them.
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.diffusion.paths.path import NoisePath
from gdm.errors import ConfigError
from gdm.inference.stratified import low_discrepancy_ranks


class TimeSample(NamedTuple):
  """Times, and the density over [0, 1] that they were drawn from."""

  t: Float[Array, " batch"]
  density: Float[Array, " batch"]


@runtime_checkable
class Times(Protocol):
  """A distribution of times.

  Attributes:
    bound_steps: steps of the variational bound along what is trained; None is continuous time.
    is_weighting: whether the density is a part of the loss's weighting; else the loss divides by it, so that the
      distribution changes the spread of its estimate alone.
  """

  is_weighting: ClassVar[bool]

  @property
  def bound_steps(self) -> int | None: ...

  def at(self, path: NoisePath, rank: Float[Array, " batch"]) -> TimeSample:
    """Return the times below which a fraction `rank`, in [0, 1], of all are."""
    ...


@dataclasses.dataclass(frozen=True)
class UniformTimes:
  """Evenly between the path's ends."""

  is_weighting: ClassVar[bool] = False

  @property
  def bound_steps(self) -> None:
    return None

  def at(self, path: NoisePath, rank: Float[Array, " batch"]) -> TimeSample:
    start, end = path.ends
    return TimeSample(start + (end - start) * rank, jnp.full_like(rank, 1.0 / (end - start)))


@dataclasses.dataclass(frozen=True)
class DiscreteTimes:
  """One of i / T, i = 1 to T, each as often: noise comes in T steps, and the bound's first one is the reconstruction.

  Attributes:
    num_steps: T.
  """

  num_steps: int

  is_weighting: ClassVar[bool] = False

  def __post_init__(self) -> None:
    checks.at_least("num_steps", self.num_steps, 1)

  @property
  def bound_steps(self) -> int:
    return self.num_steps - 1

  def at(self, path: NoisePath, rank: Float[Array, " batch"]) -> TimeSample:
    step = jnp.clip(jnp.floor(rank * self.num_steps), 0, self.num_steps - 1) + 1.0
    return TimeSample(step / self.num_steps, jnp.ones_like(rank))


@dataclasses.dataclass(frozen=True)
class LevelTimes:
  """One of `num` times from end to end of the path, both included, each as often."""

  num: int

  is_weighting: ClassVar[bool] = False

  def __post_init__(self) -> None:
    checks.at_least("num of levels", self.num, 2, "(the path's ends)")

  @property
  def bound_steps(self) -> int:
    return self.num - 1

  def at(self, path: NoisePath, rank: Float[Array, " batch"]) -> TimeSample:
    level = jnp.clip(jnp.floor(rank * self.num), 0, self.num - 1)
    start, end = path.ends
    return TimeSample(start + (end - start) * level / (self.num - 1), jnp.ones_like(rank))


@dataclasses.dataclass(frozen=True)
class LogSNRTimes:
  """Evenly in log-SNR: density proportional to g^2 / sigma^2 = -lambda'.

  It is the importance sampling of the likelihood weighting (Song et al., arXiv:2101.09258, section 4.3).
  """

  is_weighting: ClassVar[bool] = False

  @property
  def bound_steps(self) -> None:
    return None

  def at(self, path: NoisePath, rank: Float[Array, " batch"]) -> TimeSample:
    first, last = (path.log_snr(jnp.asarray(end, rank.dtype)) for end in path.ends)
    t = jnp.clip(path.time(first + (last - first) * rank), *path.ends)
    return TimeSample(t, path.log_snr_rate(t) / (last - first))


@dataclasses.dataclass(frozen=True)
class LogNormalTimes:
  """log(sigma / alpha) is normal, cut off at the path's ends (arXiv:2206.00364, table 1 and section 5).

  EDM leaves the density in its loss, as a part of the weighting: it does not divide by it.

  Attributes:
    mean, std: of log(sigma / alpha).
  """

  mean: float = -1.2
  std: float = 1.2

  is_weighting: ClassVar[bool] = True

  def __post_init__(self) -> None:
    if not (self.std > 0.0 and math.isfinite(self.mean)):
      raise ConfigError(f"mean is {self.mean} and std is {self.std} of the log of sigma; std must be above 0.")

  @property
  def bound_steps(self) -> None:
    return None

  def at(self, path: NoisePath, rank: Float[Array, " batch"]) -> TimeSample:
    low, high = (self._z(path, jnp.asarray(end, rank.dtype)) for end in path.ends)
    inside = ndtr(low) + (ndtr(high) - ndtr(low)) * rank
    z = jnp.clip(ndtri(inside), low, high)
    t = jnp.clip(path.time(-2.0 * (self.mean + self.std * z)), *path.ends)
    density = norm.pdf(z) / (ndtr(high) - ndtr(low)) * -path.log_snr_rate(t) / (2.0 * self.std)
    return TimeSample(t, density)

  def _z(self, path: NoisePath, t: Float[Array, ""]) -> Float[Array, ""]:
    return (-0.5 * path.log_snr(t) - self.mean) / self.std


TIMES: dict[str, type] = {"uniform": UniformTimes, "discrete": DiscreteTimes, "levels": LevelTimes,
                          "vlb_importance": LogSNRTimes, "log_normal": LogNormalTimes}


def sample_times(times: Times, path: NoisePath, key: Key[Array, ""], num: int) -> TimeSample:
  """Return `num` times of a distribution, at low-discrepancy ranks."""
  return times.at(path, low_discrepancy_ranks(key, num))
