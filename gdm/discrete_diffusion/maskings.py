"""Random masks and their weights: one draw is an unbiased estimate of a variational bound.

The bound on -log p(x) of a model that unmasks by logits is, for every masking here,

  E[weight * sum of -log p(x_i | x with masks) over the masked dimensions i].

  continuous time   weight m'(t) / m(t) at a uniform time t (MD4, arXiv:2406.04329, equation 5, where it is
                    -alpha'_t / (1 - alpha_t)): in expectation the same number for every schedule
  T steps           weight T (m(t) - m(s)) / m(t) of a uniform step from t to s = t - 1 / T: looser, and it depends on
                    the schedule (arXiv:2107.03006, appendix A.3)
  orders            weight D / k of a uniform number k of masks among D dimensions (ARDM, arXiv:2110.02037, equation
                    3): the same number as continuous time, since k masks come up with total weight 1 / k there

A schedule that changes nothing but the noise of the estimate may be learned for less of it: `LearnedTime`.

The first two would often draw no mask at all where m(t) is small. So they draw masks given that there is one, with the
probability of that, 1 - (1 - m)^D, as a factor of the weight: the same mean, weights of at most D, and no idle draw.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from gdm import checks
from gdm.discrete_diffusion.schedules import Pieces, Schedule, mask_rate, require_ends
from gdm.errors import ConfigError

TINY = 1e-30  # mask probabilities below it count as it
Statistics = Mapping[str, Array]


class Masked(NamedTuple):
  """Masks of a batch, and the weight of each example's masked dimensions in the bound."""

  mask: Bool[Array, "batch dims"]
  weight: Float[Array, " batch"]


@runtime_checkable
class Masking(Protocol):
  """A distribution of masks with weights.

  Example:
    masking: Masking = Orders()
    mask, weight = masking.draw(key, ranks=jax.random.uniform(key, (16,)), real=jnp.ones((16, 4), bool))
    model = MaskedModel(DataSpec((4,), 5), masking)

  Attributes:
    num_steps: steps of the model whose bound it is; 0 where dimensions are unmasked one at a time.
  """

  @property
  def num_steps(self) -> int: ...

  @property
  def schedule(self) -> Schedule | None:
    """The schedule of masks in time; None where there is no time."""
    ...

  @property
  def shares(self) -> tuple[float, ...]:
    """Share of the dimensions that is masked after each step, of samplers that count; () where nothing says."""
    ...

  def draw(self, key: Key[Array, ""], ranks: Float[Array, " batch"], real: Bool[Array, "batch dims"]) -> Masked:
    """Draw masks.

    Args:
      key: of the masks.
      ranks: uniform in [0, 1); they choose the times or the numbers of masks.
      real: which dimensions are no padding, the first ones of each example; no other is masked.
    """
    ...


@runtime_checkable
class LearnedMasking(Protocol):
  """A masking by what training has seen: by statistics that stand in the carry."""

  @property
  def num_steps(self) -> int: ...

  def init(self) -> Statistics:
    """Return the statistics at first."""
    ...

  def bind(self, statistics: Statistics) -> Masking:
    """Return the masking that they stand for."""
    ...

  def learn(self, statistics: Statistics, ranks: Float[Array, " batch"], nats: Float[Array, " batch"]) -> Statistics:
    """Return the statistics after a batch: the ranks that its masks were drawn by, and the estimates of the bound in
    nats."""
    ...


@dataclasses.dataclass(frozen=True)
class BoundTime:
  """Masks at a uniform time of a schedule, whose ends are exact.

  Attributes:
    schedule: probability of a mask by time.
  """

  schedule: Schedule

  @property
  def num_steps(self) -> int:
    return 0

  @property
  def shares(self) -> tuple[float, ...]:
    return ()

  def draw(self, key: Key[Array, ""], ranks: Float[Array, " batch"], real: Bool[Array, "batch dims"]) -> Masked:
    t = 1.0 - ranks  # in (0, 1]
    m = jnp.clip(self.schedule.mask_prob(t), TINY, 1.0)
    mask, some = at_least_one(key, m, real)
    return Masked(mask, mask_rate(self.schedule, t) / m * some)


@dataclasses.dataclass(frozen=True)
class ContinuousTime(BoundTime):
  """Masks at a uniform time of a schedule that is given. Raise ConfigError where its ends are not exact.

  Example:
    masking = ContinuousTime(CosineSchedule())
    mask, weight = masking.draw(key, ranks=jax.random.uniform(key, (16,)), real=jnp.ones((16, 4), bool))
  """

  def __post_init__(self) -> None:
    require_ends(self.schedule)


@dataclasses.dataclass(frozen=True)
class LearnedTime:
  """Masks at a uniform time of a schedule that training makes, so that the bound's estimate varies less.

  At mask probability m, which has the density q(m) = 1 / m'(t), the estimate is v / q(m), where v does not depend on
  the schedule. Its mean does not depend on q, and its second moment is least for q(m) in proportion to sqrt(E[v^2]), as
  is known of importance sampling (of diffusion's steps: arXiv:2102.09672, equation 18). So running means of v^2 by
  intervals of m make q, constant on each; a share of it is even, lest an interval go unseen.

  Example:
    model = MaskedModel(DataSpec((8, 8, 1), 17), LearnedTime(), network=Perceptron(hidden=(64,)))
    params, carry = model.init(key, batch)
    schedule = model.masking.bind(carry["statistics"]["masking"]).schedule

  Attributes:
    intervals: of m, of the same width.
    decay: of the running means, for each batch.
    even: share of q that is even.
  """

  intervals: int = 32
  decay: float = 0.99
  even: float = 0.1

  def __post_init__(self) -> None:
    checks.at_least("intervals", self.intervals, 1)
    checks.rate("decay", self.decay)
    if not 0.0 < self.even <= 1.0:
      raise ConfigError(f"even is {self.even}; it must be above 0, so that every interval is seen, and at most 1.")

  @property
  def num_steps(self) -> int:
    return 0

  def init(self) -> Statistics:
    share = jnp.full(self.intervals, 1.0 / self.intervals)
    return {"squares": share, "seen": share}

  def bind(self, statistics: Statistics) -> "BoundTime":
    root = jnp.sqrt(statistics["squares"] / jnp.maximum(statistics["seen"], TINY))
    share = (1.0 - self.even) * root / jnp.maximum(jnp.sum(root), TINY) + self.even / self.intervals
    return BoundTime(Pieces.of(share))

  def learn(self, statistics: Statistics, ranks: Float[Array, " batch"], nats: Float[Array, " batch"]) -> Statistics:
    schedule, t = self.bind(statistics).schedule, 1.0 - ranks
    interval = jnp.floor(schedule.mask_prob(t) * self.intervals).astype(jnp.int32)
    chosen = jax.nn.one_hot(jnp.clip(interval, 0, self.intervals - 1), self.intervals)
    squares = jax.lax.stop_gradient(nats / mask_rate(schedule, t)) ** 2
    new = {"squares": jnp.mean(squares[:, None] * chosen, axis=0), "seen": jnp.mean(chosen, axis=0)}
    return {name: self.decay * statistics[name] + (1.0 - self.decay) * new[name] for name in new}


@dataclasses.dataclass(frozen=True)
class Steps:
  """Masks at the end of one of T steps of a schedule.

  Example:
    masking = Steps(LinearSchedule(), num_steps=10)
    mask, weight = masking.draw(key, ranks=jax.random.uniform(key, (16,)), real=jnp.ones((16, 4), bool))

  Attributes:
    schedule: probability of a mask by time. Raise ConfigError where its ends are not exact.
    num_steps: T.
  """

  schedule: Schedule
  num_steps: int

  def __post_init__(self) -> None:
    checks.at_least("num_noise_steps", self.num_steps, 1)
    require_ends(self.schedule)

  @property
  def shares(self) -> tuple[float, ...]:
    return ()

  def draw(self, key: Key[Array, ""], ranks: Float[Array, " batch"], real: Bool[Array, "batch dims"]) -> Masked:
    step = jnp.clip(jnp.floor(ranks * self.num_steps), 0, self.num_steps - 1)
    s, t = (self.schedule.mask_prob(i / self.num_steps) for i in (step, step + 1.0))
    t = jnp.clip(t, TINY, 1.0)
    mask, some = at_least_one(key, t, real)
    return Masked(mask, self.num_steps * (t - s) / t * some)


@dataclasses.dataclass(frozen=True)
class Orders:
  """A uniform number of masks, of uniform dimensions: those that come last in a random order.

  Example:
    masking = Orders()
    mask, weight = masking.draw(key, ranks=jax.random.uniform(key, (16,)), real=jnp.ones((16, 4), bool))
    num_masks = mask.sum(axis=1)  # 4 / weight
  """

  @property
  def num_steps(self) -> int:
    return 0

  @property
  def schedule(self) -> None:
    return None

  @property
  def shares(self) -> tuple[float, ...]:
    return ()

  def draw(self, key: Key[Array, ""], ranks: Float[Array, " batch"], real: Bool[Array, "batch dims"]) -> Masked:
    dims = jnp.sum(real, axis=1)
    num = 1 + jnp.clip(jnp.floor(ranks * dims), 0, dims - 1).astype(jnp.int32)
    return Masked(some_of(key, num, real), dims / num)


def some_of(key: Key[Array, ""], num: Int[Array, " batch"],
            real: Bool[Array, "batch dims"]) -> Bool[Array, "batch dims"]:
  """Draw uniform sets of so many real dimensions of each example."""
  chance = jnp.where(real, jax.random.uniform(key, real.shape), jnp.inf)
  place = jnp.argsort(jnp.argsort(chance, axis=1), axis=1)  # of the real dimensions a uniform permutation
  return place < num[:, None]


def at_least_one(key: Key[Array, ""], m: Float[Array, " batch"], real: Bool[Array, "batch dims"]
                 ) -> tuple[Bool[Array, "batch dims"], Float[Array, " batch"]]:
  """Draw masks, each with probability m independently, given that there is at least one; return them and the
  probability of that.

  The first mask's place j has probability m (1 - m)^j / (1 - (1 - m)^dims), by inversion; what follows it is free.

  Args:
    key: of the draws.
    m: above 0, at most 1.
    real: which dimensions are no padding, the first ones of each example; no other is masked.
  """
  first_key, rest_key = jax.random.split(key)
  dims = jnp.sum(real, axis=1)
  log_keep = jnp.log1p(-m)  # -inf where all is masked
  some = -jnp.expm1(dims * log_keep)
  u = jax.random.uniform(first_key, m.shape)
  first = jnp.floor(jnp.log1p(-u * some) / log_keep)
  first = jnp.clip(jnp.where(m < 1.0, first, 0.0), 0, dims - 1)[:, None]
  place = jnp.arange(real.shape[1])
  rest = jax.random.uniform(rest_key, real.shape) < m[:, None]
  return ((place == first) | ((place > first) & rest)) & real, some
