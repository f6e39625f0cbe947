"""Order-agnostic models that unmask several dimensions at a step, and the best numbers of them for so many steps.

With k masks left, n dimensions unmasked at once cost n times the mean of -log p of a masked dimension, l(k): what they
tell of each other is lost. So a trained network's losses l(1), ..., l(D) say which numbers lose least, by dynamic
programming (Hoogeboom et al., arXiv:2110.02037, section 3.2; Watson et al., arXiv:2106.03802). That is a schedule
learned from the data, after training.

Example:
  losses = losses_by_masks(model, params, x, jax.random.key(0))
  fast = dataclasses.replace(model, masking=Parallel(plan(losses, num_steps=10)))
  fast.sample(params, carry, key, 16).info["nfe"]  # 10
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from gdm import checks
from gdm.discrete_diffusion.maskings import Masked, some_of
from gdm.errors import ConfigError, SpecError


@dataclasses.dataclass(frozen=True)
class Parallel:
  """A masking by steps that each unmask a fixed number of dimensions, in a random order.

  Its bound is the sum over steps of counts[j] l(k_j), k_j masks being left; with a step for each dimension it is the
  bound of `Orders`.

  Example:
    masking = Parallel((1, 3, 12, 48))
    model = MaskedModel(DataSpec((8, 8, 1), 17), masking)  # draws samples by 4 passes of the network

  Attributes:
    counts: dimensions that each step unmasks, each at least 1; together all of them.
  """

  counts: tuple[int, ...]

  def __post_init__(self) -> None:
    checks.sizes("counts", self.counts)

  @property
  def num_steps(self) -> int:
    return len(self.counts)

  @property
  def schedule(self) -> None:
    return None

  @property
  def shares(self) -> tuple[float, ...]:
    """Share of the dimensions that is masked after each step."""
    return tuple(1.0 - done / sum(self.counts) for done in np.cumsum(self.counts).tolist())

  def draw(self, key: Key[Array, ""], ranks: Float[Array, " batch"], real: Bool[Array, "batch dims"]) -> Masked:
    dims = real.shape[1]
    if sum(self.counts) != dims:
      raise SpecError(f"counts add up to {sum(self.counts)}; they must add up to the {dims} dimensions of the data.")
    step = jnp.clip(jnp.floor(ranks * self.num_steps), 0, self.num_steps - 1).astype(jnp.int32)
    count = jnp.asarray(self.counts)
    left = (dims - jnp.cumsum(count) + count)[step]
    return Masked(some_of(key, left, real), self.num_steps * count[step] / left)


def even_counts(dims: int, num_steps: int) -> tuple[int, ...]:
  """Return numbers of dimensions for each step that differ by at most one. Raise ConfigError for more steps than
  dimensions.

  Example:
    counts = even_counts(dims=10, num_steps=4)  # (2, 3, 2, 3)
  """
  _require_steps(dims, num_steps)
  return tuple(np.diff(np.arange(num_steps + 1) * dims // num_steps).tolist())


def plan(losses: Float[np.ndarray, " dims"], num_steps: int) -> tuple[int, ...]:
  """Return how many dimensions each step should unmask for the least bound.

  Example:
    counts = plan(np.array([1.0, 1.2, 2.0, 3.0]), num_steps=2)  # (2, 2)

  Args:
    losses: l(k) in nats of k = 1 to D masks, see `losses_by_masks`.
    num_steps: at most D.
  """
  dims = len(losses)
  _require_steps(dims, num_steps)
  masks = np.arange(dims + 1)
  # cost[k, j]: from k masks to j of them in one step.
  lost = masks[:, None] - masks[None]
  cost = np.where(lost > 0, lost * np.append(0.0, losses)[:, None], np.inf)
  best, choices = np.where(masks == 0, 0.0, np.inf), []
  for _ in range(num_steps):
    total = cost + best[None]
    choices.append(np.argmin(total, axis=1))
    best = np.min(total, axis=1)
  counts, left = [], dims
  for choice in reversed(choices):
    counts.append(int(left - choice[left]))
    left = int(choice[left])
  return tuple(counts)


def losses_by_masks(model: Any, params: Any, x: Num[Array | np.ndarray, "batch *event"], key: Key[Array, ""],
                    num_draws: int = 1) -> Float[np.ndarray, " dims"]:
  """Return l(k) of k = 1 to D: the mean of -log p(x_i | x with k masks) of a masked dimension, in nats.

  Example:
    model = ardm(DataSpec((4,), 5), network=Perceptron(hidden=(32,)))
    x = jnp.zeros((16, 4), jnp.int32)
    params, carry = model.init(key, {"x": x})
    losses = losses_by_masks(model, params, x, key)  # [4], of 1, 2, 3 and 4 masks

  Args:
    model: a model with `missing_nats`.
    params: its parameters.
    x: examples to take the mean over; of the training or validation split.
    key: of the masks.
    num_draws: of masks for each example and number.
  """
  flat = jnp.asarray(x).reshape(len(x), -1).astype(jnp.int32)
  real = jnp.ones(flat.shape, bool)

  @jax.jit
  def mean(params, num):
    def one(draw):
      mask = some_of(jax.random.fold_in(jax.random.fold_in(key, num), draw), jnp.full(len(flat), num), real)
      return jnp.mean(model.missing_nats(params, flat, mask)) / num

    return jnp.mean(jax.lax.map(one, jnp.arange(num_draws)))

  return np.array([float(mean(params, num)) for num in range(1, flat.shape[1] + 1)])


def _require_steps(dims: int, num_steps: int) -> None:
  if not 1 <= num_steps <= dims:
    raise ConfigError(f"num_steps is {num_steps}; it must be 1 to {dims}, the number of dimensions.")
