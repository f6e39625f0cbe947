"""The contract of all networks of this family, and the layers they share: inputs, time, dropout."""

import abc
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdm import checks
from gdm.networks.dropout import dropout
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear

MAX_STEPS = 1000.0  # times in [0, 1] are embedded as positions up to this


class LogitsNetwork(nn.Module, abc.ABC):
  """x [batch, *event] -> logits [batch, *event, levels] of every dimension.

  x holds integers: a level in [0, levels), or the number `levels` where a dimension is masked. Logits are given for
  all dimensions, those that are not masked included.

  Attributes:
    dropout: rate in the hidden layers, in [0, 1), where an rng named "dropout" is given.
    event: shape of an example; the model sets it.
    levels: number of levels; the model sets it.
    context: width of the context, such as one-hot labels; 0 without one; the model sets it.
    timed: whether the network is given the time of the noise, as where it cannot be read off the number of masks; the
      model sets it.
  """

  dropout: float = 0.0
  event: tuple[int, ...] = from_data(())
  levels: int = from_data(0)
  context: int = from_data(0)
  timed: bool = from_data(False)

  def __post_init__(self) -> None:
    checks.rate("network.dropout", self.dropout)
    super().__post_init__()

  @property
  def channels(self) -> int:
    """Dimensions of one position: an image's channels, else one."""
    return self.event[-1] if len(self.event) == 3 else 1

  @property
  def positions(self) -> int:
    """Pixels of an image, dimensions of anything else."""
    return math.prod(self.event) // self.channels

  @abc.abstractmethod
  def __call__(self, x: Int[Array, "batch *event"], time: Float[Array, " batch"] | None = None,
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch *event levels"]:
    """Return logits of every dimension; `time` in [0, 1] is given where the network is `timed`."""


def features(x: Int[Array, "batch positions channels"], levels: int) -> Float[Array, "batch positions features"]:
  """Return the inputs of each position: for each channel a one-hot code of its level or mask, and its value in [-1, 1].

  The value is 0 where the channel is masked. It lets neighbouring levels look alike from the start.
  """
  value = jnp.where(x < levels, 2.0 * x / (levels - 1) - 1.0, 0.0)
  codes = jax.nn.one_hot(x, levels + 1)
  return jnp.concatenate([codes, value[..., None]], axis=-1).reshape(*x.shape[:2], -1)


class TimeVector(nn.Module):
  """Times [batch] -> vectors [batch, width]: two layers over sines and cosines of 1000 t.

  Attributes:
    width: size of a vector.
  """

  width: int

  @nn.compact
  def __call__(self, time: Float[Array, " batch"]) -> Float[Array, "batch width"]:
    half = max(1, self.width // 2)
    angles = time[:, None] * MAX_STEPS * jnp.asarray(np.exp(-math.log(10_000.0) * np.arange(half) / half), time.dtype)
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    h = Linear(self.width, (2 * half) ** -0.5, use_bias=True, name="first")(waves)
    return Linear(self.width, self.width**-0.5, use_bias=True, name="second")(jax.nn.silu(h))


def conditioning(width: int, time: Float[Array, " batch"] | None, context: Float[Array, "batch given"] | None) -> Array:
  """Return a vector [batch, width] of the time and the context, to add to the activations of every position; zeros
  [1, width] without either. Call it in a module."""
  of_time = jnp.zeros((1, width)) if time is None else TimeVector(width, name="time")(time)
  return of_time if context is None else of_time + Linear(width, 1.0, use_bias=True, name="context")(context)


def drop(module: nn.Module, x: Float[Array, "*shape"], rate: float) -> Float[Array, "*shape"]:
  """Return x after dropout at `rate`, where the module was given an rng named "dropout"."""
  key = module.make_rng("dropout") if rate > 0.0 and module.has_rng("dropout") else None
  return dropout(key, x, rate)
