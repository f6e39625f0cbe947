"""Samplers by unmasking: at each step the network fills in all masks, and a rule says which of them are kept.

  one_by_one    as many at each step as spread evenly, in a random order; with a step for each dimension it draws
                exactly from the mixture of all orders, which is the model in continuous time
  confidence    as many, those of the likeliest draws (MaskGIT, arXiv:2202.04200, section 3.2): sharper, and no sampler
                of the model
  ancestral     each mask independently, with the schedule's probability (m(t) - m(s)) / m(t) of a step from t to s: the
                model of so many steps (arXiv:2406.04329, section 4)
  tau_leaping   each mask where its Poisson process, at the rate that it has when the step begins, jumps within the step
                (arXiv:2205.14987, section 4.3); what is left is unmasked at the last step
"""

import dataclasses
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from gdm.discrete_diffusion.orders import LogProbs
from gdm.discrete_diffusion.schedules import LinearSchedule, Schedule, mask_rate
from gdm.inference.generation import TokenChoice


class Step(NamedTuple):
  """One step from time t to s, and the share of an example's masks that were there at first and stay after it."""

  t: Float[Array, ""]
  s: Float[Array, ""]
  remaining: Float[Array, ""]


class State(NamedTuple):
  """What a rule chooses by.

  Attributes:
    masked: which dimensions are masked.
    log_probs: log-probability in nats of what was drawn for each dimension.
    priority: a random number of each dimension, the same at all steps.
    num: masks that an example had at first.
  """

  masked: Bool[Array, "batch dims"]
  log_probs: Float[Array, "batch dims"]
  priority: Float[Array, "batch dims"]
  num: Int[Array, " batch"]


@runtime_checkable
class Rule(Protocol):
  """Which masks are replaced at a step; at the last one all are, whatever the rule says."""

  def unmask(self, key: Key[Array, ""], schedule: Schedule, step: Step, state: State) -> Bool[Array, "batch dims"]:
    """Return which dimensions may be unmasked; those that have no mask any more are left alone."""
    ...


@dataclasses.dataclass(frozen=True)
class OneByOne:
  """In a random order of each example."""

  def unmask(self, key: Key[Array, ""], schedule: Schedule, step: Step, state: State) -> Bool[Array, "batch dims"]:
    return _first(state.priority, step, state)


@dataclasses.dataclass(frozen=True)
class Confidence:
  """The draws of highest probability first.

  Attributes:
    noise: scale of Gumbel noise on the log-probabilities, falling to 0 at the last step.
  """

  noise: float = 1.0

  def unmask(self, key: Key[Array, ""], schedule: Schedule, step: Step, state: State) -> Bool[Array, "batch dims"]:
    noise = self.noise * step.t * jax.random.gumbel(key, state.log_probs.shape)
    return _first(-(state.log_probs + noise), step, state)


@dataclasses.dataclass(frozen=True)
class AncestralUnmasking:
  """Each independently, as the schedule says."""

  def unmask(self, key: Key[Array, ""], schedule: Schedule, step: Step, state: State) -> Bool[Array, "batch dims"]:
    before, after = schedule.mask_prob(step.t), schedule.mask_prob(step.s)
    return jax.random.uniform(key, state.masked.shape) * before < before - after


@dataclasses.dataclass(frozen=True)
class TauLeaping:
  """Each independently, by the rate m'(t) / m(t) at the step's beginning."""

  def unmask(self, key: Key[Array, ""], schedule: Schedule, step: Step, state: State) -> Bool[Array, "batch dims"]:
    rate = mask_rate(schedule, step.t) / schedule.mask_prob(step.t)
    jumps = -jnp.expm1(-rate * (step.t - step.s))
    return jax.random.uniform(key, state.masked.shape) < jumps


SAMPLERS: dict[str, Rule] = {"one_by_one": OneByOne(), "confidence": Confidence(), "ancestral": AncestralUnmasking(),
                             "tau_leaping": TauLeaping()}


def unmask(log_probs: LogProbs, key: Key[Array, ""], x: Int[Array, "batch dims"], levels: int, num_steps: int,
           rule: Rule, choice: TokenChoice, schedule: Schedule | None = None,
           shares: tuple[float, ...] = ()) -> Int[Array, "batch dims"]:
  """Replace all masks of x by draws, in `num_steps` passes of the network.

  Args:
    log_probs: the network, see `LogProbs`.
    key: of all draws.
    x: integers in [0, levels], where `levels` is a mask; all else is kept.
    levels: how many.
    num_steps: at least 1.
    rule: which draws are kept at each step.
    choice: how levels are drawn from their logits.
    schedule: of rules that need one; None is linear.
    shares: share of the masks that is left after each step, of rules that count; falling evenly where there are not
      `num_steps` of them.
  """
  schedule = LinearSchedule() if schedule is None else schedule
  priority_key, key = jax.random.split(key)
  priority = jax.random.uniform(priority_key, x.shape)
  num = jnp.sum(x == levels, axis=1)
  left = jnp.asarray(shares) if len(shares) == num_steps else 1.0 - jnp.arange(1, num_steps + 1) / num_steps

  def body(x, index):
    draw_key, rule_key = jax.random.split(jax.random.fold_in(key, index))
    logits = log_probs(x)
    drawn = choice.draw(draw_key, logits)
    found = jnp.take_along_axis(logits, drawn[..., None], axis=-1)[..., 0]
    step = Step(1.0 - index / num_steps, 1.0 - (index + 1.0) / num_steps, left[index])
    masked = x == levels
    kept = rule.unmask(rule_key, schedule, step, State(masked, found, priority, num)) | (index == num_steps - 1)
    return jnp.where(masked & kept, drawn, x), None

  return jax.lax.scan(body, x, jnp.arange(num_steps))[0]


def _first(value: Float[Array, "batch dims"], step: Step, state: State) -> Bool[Array, "batch dims"]:
  """Return the masks of lowest value, as many as leave the step's share of the first ones."""
  left = jnp.floor(state.num * step.remaining + 1e-4)  # the product may fall short of a whole number by rounding
  count = jnp.sum(state.masked, axis=1) - left
  place = jnp.argsort(jnp.argsort(jnp.where(state.masked, value, jnp.inf), axis=1), axis=1)
  return place < count[:, None]
