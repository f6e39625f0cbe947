"""Mask schedules: the probability m(t) that a dimension is masked at time t, from 0 at t = 0 to 1 at t = 1.

m(t) is 1 - alpha_t of arXiv:2406.04329, section 2. The ends are exact: at t = 1 all is masked, so that the prior term
of the bound is 0 (it is infinite otherwise), and at t = 0 nothing is, so that there is no reconstruction term.
"""

import dataclasses
import functools
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.errors import ConfigError

GRID = 257  # times at which a schedule is checked


@runtime_checkable
class Schedule(Protocol):
  """A mask probability that rises with time; differentiable by JAX.

  Example:
    schedule: Schedule = CosineSchedule()
    m = schedule.mask_prob(jnp.linspace(0.0, 1.0, 3))
    model = masked(DataSpec((4,), 5), schedule=schedule)
  """

  def mask_prob(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the probability that a dimension is masked at times t in [0, 1]."""
    ...


@dataclasses.dataclass(frozen=True)
class LinearSchedule:
  """m(t) = t.

  Example:
    m = LinearSchedule().mask_prob(jnp.linspace(0.0, 1.0, 3))  # 0, 0.5, 1
  """

  def mask_prob(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return t


@dataclasses.dataclass(frozen=True)
class CosineSchedule:
  """m(t) = cos(pi / 2 (1 - t)) = sin(pi / 2 t) (arXiv:2406.04329, table 4).

  Example:
    m = CosineSchedule().mask_prob(jnp.linspace(0.0, 1.0, 3))  # 0, sqrt(1 / 2), 1
  """

  def mask_prob(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.sin(0.5 * jnp.pi * t)


@dataclasses.dataclass(frozen=True)
class PolynomialSchedule:
  """m(t) = t^power (arXiv:2406.04329, table 4).

  Example:
    m = PolynomialSchedule(power=3.0).mask_prob(jnp.linspace(0.0, 1.0, 3))  # 0, 0.125, 1

  Attributes:
    power: above 0; 1 is linear.
  """

  power: float = 2.0

  def __post_init__(self) -> None:
    checks.positive("power", self.power)

  def mask_prob(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return t**self.power


@functools.partial(jax.tree_util.register_dataclass, data_fields=("times",), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Pieces:
  """m(t) linear between given times, at which it is 0, 1 / n, 2 / n, ..., 1.

  Attributes:
    times: rising from 0 to 1.
  """

  times: Float[Array, " knots"]

  @classmethod
  def of(cls, shares: Float[Array, " intervals"]) -> "Pieces":
    """Return the schedule that spends the given shares of time, above 0, on intervals of m of the same width."""
    passed = jnp.cumsum(shares)
    return cls(jnp.concatenate([jnp.zeros(1), passed / passed[-1]]))

  def mask_prob(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    num = len(self.times) - 1
    begin = jnp.clip(jnp.searchsorted(self.times, t, side="right") - 1, 0, num - 1)
    start, end = self.times[begin], self.times[begin + 1]
    return (begin + (t - start) / (end - start)) / num


SCHEDULES: dict[str, type] = {"linear": LinearSchedule, "cosine": CosineSchedule, "polynomial": PolynomialSchedule}


def mask_rate(schedule: Schedule, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return dm/dt at times t, by automatic differentiation."""
  return jax.jvp(schedule.mask_prob, (t,), (jnp.ones_like(t),))[1]


def require_ends(schedule: Schedule) -> None:
  """Raise ConfigError unless a schedule rises from 0 at t = 0 to exactly 1 at t = 1."""
  with jax.ensure_compile_time_eval():  # also where a caller is being traced
    m = np.asarray(schedule.mask_prob(jnp.linspace(0.0, 1.0, GRID)))
  name = type(schedule).__name__
  if m[-1] != 1.0:
    raise ConfigError(f"schedule {name} masks a dimension at t = 1 with probability {m[-1]:.9g}; it must be exactly 1: "
                      "sampling starts at all masks, which the data would reach with no other probability, so that the "
                      "prior term of the bound would be infinite.")
  if abs(m[0]) > 1e-6:
    raise ConfigError(f"schedule {name} masks a dimension at t = 0 with probability {m[0]:.9g}; it must be 0, else the "
                      "bound would lack what is masked there.")
  for step in np.flatnonzero(~(np.diff(m) >= 0.0))[:1]:
    at = (step + 1) / (GRID - 1)
    raise ConfigError(f"schedule {name} falls from {m[step]:.6g} to {m[step + 1]:.6g} at t = {at:.3g}; the probability "
                      "of a mask must rise with time.")
