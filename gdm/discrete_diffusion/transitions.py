"""Transition matrices of D3PM (Austin et al., arXiv:2107.03006): how one step of noise changes a level.

Row i of a matrix is the distribution of the next level given level i. Tables hold all steps at once, made in float64.
"""

import dataclasses
import functools
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gdm import checks
from gdm.discrete_diffusion.schedules import Schedule, require_ends
from gdm.errors import ConfigError

MAX_ENTRIES = 1 << 26  # of a table


class Tables(NamedTuple):
  """Matrices of all steps.

  Attributes:
    step: step[t - 1] is q(x_t | x_{t-1}), t from 1 to T.
    total: total[t] is q(x_t | x_0), t from 0 to T.
  """

  step: Float[np.ndarray, "steps levels levels"]
  total: Float[np.ndarray, "steps_and_one levels levels"]


@runtime_checkable
class Transitions(Protocol):
  """Doubly stochastic matrices, whose limit is the uniform distribution.

  Example:
    transitions: Transitions = GaussianTransitions(num_steps=100)
    step, total = transitions.tables(levels=17)
    model = d3pm(DataSpec((8, 8, 1), 17), transitions=transitions)

  Attributes:
    num_steps: T.
  """

  @property
  def num_steps(self) -> int: ...

  def tables(self, levels: int) -> Tables:
    """Return the matrices for data of so many levels. Raise ConfigError where they would be too large."""
    ...


@dataclasses.dataclass(frozen=True)
class UniformTransitions:
  """A level is kept, or replaced by a uniform one (section 3.1 and appendix A.2.1).

  After step t it was replaced with probability m(t / T) of a schedule, whose ends are exact: what comes out at last is
  uniform, so that the prior term is 0.

  Example:
    step, total = UniformTransitions(100, CosineSchedule()).tables(levels=17)
    probs = total[100, 3]  # of x_100 given x_0 = 3: all 1 / 17

  Attributes:
    num_steps: T.
    schedule: probability that a level was replaced, by time.
  """

  num_steps: int
  schedule: Schedule

  def __post_init__(self) -> None:
    checks.at_least("num_noise_steps", self.num_steps, 1)
    require_ends(self.schedule)

  def tables(self, levels: int) -> Tables:
    _require_fit(self.num_steps, levels)
    return _uniform(self.num_steps, self.schedule, levels)


@dataclasses.dataclass(frozen=True)
class GaussianTransitions:
  """A level moves by a discretized normal (appendix A.2.3, equation 8): for levels that are a scale.

  Example:
    step, total = GaussianTransitions(num_steps=100).tables(levels=17)
    probs = total[100, 3]  # of x_100 given x_0 = 3

  Attributes:
    num_steps: T.
    first, last: beta of the first and the last step of 1,000, linear between them; of T steps times 1,000 / T.
  """

  num_steps: int
  first: float = 1e-4
  last: float = 0.02

  def __post_init__(self) -> None:
    checks.at_least("num_noise_steps", self.num_steps, 1)
    checks.positive("first", self.first)
    checks.at_least("last", self.last, self.first, "(the first beta)")

  def tables(self, levels: int) -> Tables:
    _require_fit(self.num_steps, levels)
    return _gaussian(self.num_steps, self.first, self.last, levels)


def _require_fit(num_steps: int, levels: int) -> None:
  if num_steps * levels**2 > MAX_ENTRIES:
    raise ConfigError(f"num_noise_steps is {num_steps}: its {levels} x {levels} matrices have "
                      f"{num_steps * levels**2:,} entries; at most {MAX_ENTRIES // levels**2} steps fit.")


@functools.lru_cache(maxsize=8)
def _uniform(num_steps: int, schedule: Schedule, levels: int) -> Tables:
  with jax.ensure_compile_time_eval():  # also where a caller is being traced
    kept = 1.0 - np.asarray(schedule.mask_prob(jnp.arange(num_steps + 1) / num_steps), np.float64)
  kept[0], kept[-1] = 1.0, 0.0
  each = np.divide(kept[1:], kept[:-1], out=np.zeros(num_steps), where=kept[:-1] > 0)
  eye, flat = np.eye(levels), np.full((levels, levels), 1.0 / levels)

  def matrices(keep):
    return (keep[:, None, None] * eye + (1.0 - keep[:, None, None]) * flat).astype(np.float32)

  return Tables(matrices(each), matrices(kept))


@functools.lru_cache(maxsize=8)
def _gaussian(num_steps: int, first: float, last: float, levels: int) -> Tables:
  betas = np.linspace(first, last, num_steps) * 1000.0 / num_steps
  distance = np.arange(-(levels - 1), levels)
  steps, total = [], [np.eye(levels)]
  for beta in betas:
    weights = np.exp(-4.0 * distance**2 / ((levels - 1) ** 2 * beta))
    weights /= weights.sum()
    matrix = weights[np.arange(levels)[None] - np.arange(levels)[:, None] + levels - 1]
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, 1.0 - matrix.sum(axis=1))
    steps.append(matrix)
    total.append(total[-1] @ matrix)
  return Tables(np.stack(steps).astype(np.float32), np.stack(total).astype(np.float32))
