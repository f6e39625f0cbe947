"""Real numbers that were recorded to a few digits: how finely, and what a model says of the cells of the record.

Where values repeat, a density has no upper bound: a model that narrows its peaks on the values that it has seen gains
without end and learns nothing. The probability of the cell that a value was recorded in is at most 1, whatever the
model does.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.distributions.recording import recording_step
from gdm.errors import SpecError
from gdm.evaluation.of_model import OfModel
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, Params

# Share of a column's values that repeat, from which on it counts as recorded: float32 alone makes a few collide.
MIN_REPEATED = 0.01
# Sides of the boxes that points are drawn from, in sides of the cell: a model's peaks may be much narrower than that.
_SIDES = (1.0, 1.0 / 4.0, 1.0 / 16.0, 1.0 / 64.0, 1.0 / 256.0)
NUM_SIDES = len(_SIDES)


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
  """The recording steps of a split's columns, in the data as served.

  Attributes:
    step: the commonest gap between neighbouring values of each column.
    origin: a value of each column, in the middle of its cell; cells of a step each tile the line from there.
    repeated: share of each column's values that occur in it more than once.
  """

  step: Float[np.ndarray, " dims"]
  origin: Float[np.ndarray, " dims"]
  repeated: Float[np.ndarray, " dims"]

  @classmethod
  def of(cls, x: Float[np.ndarray, "examples *event"]) -> "Recording":
    """Return that of all examples of a split, whatever their order."""
    x = np.sort(x.reshape(len(x), -1), axis=0)
    same = np.diff(x, axis=0) == 0
    none = np.zeros((1, x.shape[1]), bool)
    repeated = np.mean(np.concatenate([same, none]) | np.concatenate([none, same]), axis=0)
    step = np.asarray(recording_step(jnp.asarray(x, jnp.float32)), np.float64)
    return cls(step, x[len(x) // 2].astype(np.float64), repeated)

  @property
  def repeated_share(self) -> float:
    """Share of all values that occur in their column more than once."""
    return float(np.mean(self.repeated))

  @property
  def is_unbounded(self) -> bool:
    """Whether densities of such data have no upper bound."""
    return bool(np.max(self.repeated) >= MIN_REPEATED)


@dataclasses.dataclass(frozen=True)
class OverCells(OfModel):
  """A model of densities as one of probabilities: of the cell of the record that an example lies in.

  The integral over the cell is estimated by importance sampling, from boxes of several sizes about the example, so that
  peaks on recorded values are found. The estimate is unbiased, so that its logarithm is a lower bound on average.

  Attributes:
    model: its log-likelihood is a log-density.
    step: sides of the cells.
    origin: the middle of one of them.
    num_points: points in each cell, a multiple of 5.
  """

  model: Any
  step: tuple[float, ...]
  origin: tuple[float, ...]
  num_points: int = 40

  def __post_init__(self) -> None:
    if self.num_points < 1 or self.num_points % len(_SIDES):
      raise SpecError(f"num_points is {self.num_points}; it must be a positive multiple of {len(_SIDES)}, the sizes of "
                      "boxes that points are drawn from.")
    self.model.spec.require_continuous("the probability of a recorded cell")

  @classmethod
  def of(cls, model: Any, recording: Recording, num_points: int = 40) -> "OverCells":
    return cls(model, tuple(recording.step.tolist()), tuple(recording.origin.tolist()), num_points)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return the log-probability of each example's cell in nats: a lower bound, or an estimate where the model's is."""
    x = jnp.asarray(batch["x"])
    flat = x.reshape(len(x), -1)
    step, origin = jnp.asarray(self.step, flat.dtype), jnp.asarray(self.origin, flat.dtype)
    middle = origin + step * jnp.round((flat - origin) / step)
    low, high = middle - 0.5 * step, middle + 0.5 * step
    # About the example, cut off at the cell; the largest box is the whole cell.
    about = jnp.clip(flat, low, high)
    sides = jnp.asarray(_SIDES, flat.dtype)[:, None, None]
    lows = jnp.where(sides == 1.0, low, jnp.maximum(about - 0.5 * sides * step, low))
    highs = jnp.where(sides == 1.0, high, jnp.minimum(about + 0.5 * sides * step, high))
    log_volumes = jnp.sum(jnp.log(highs - lows), axis=-1)  # [sizes, batch]

    kinds = []

    def log_weight(drawn):
      index, key = drawn
      point_key, model_key = jax.random.split(key)
      size = index % len(_SIDES)
      y = lows[size] + (highs - lows)[size] * jax.random.uniform(point_key, flat.shape, flat.dtype)
      inside = jnp.all((y >= lows) & (y <= highs), axis=-1)
      # The density of points is that of the mixture of all boxes.
      log_q = jax.nn.logsumexp(jnp.where(inside, -log_volumes, -jnp.inf), axis=0) - math.log(len(_SIDES))
      found = self.model.log_likelihood(params, carry, {**batch, "x": y.reshape(x.shape)}, model_key, num_samples)
      kinds.append((found.kind if found.is_mixable else Kind.ESTIMATE, found.given))
      return found.nats - log_q, found.num_dims

    weights, num_dims = jax.lax.map(log_weight, (jnp.arange(self.num_points), jax.random.split(key, self.num_points)))
    kind, given = kinds[0]
    nats = jax.nn.logsumexp(weights, axis=0) - math.log(self.num_points)
    return LogLikelihood(nats, num_dims[0], kind + Kind.LOWER_BOUND, given, unbiased=kind is not Kind.ESTIMATE)
