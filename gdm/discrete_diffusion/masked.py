"""Masked diffusion: dimensions turn into masks at random times, and the model turns them back."""

from typing import TypedDict, Unpack

import flax.linen as nn

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.discrete_diffusion.masked_model import MaskedModel
from gdm.discrete_diffusion.maskings import ContinuousTime, LearnedTime, Steps
from gdm.discrete_diffusion.schedules import SCHEDULES, PolynomialSchedule, Schedule
from gdm.errors import ConfigError

LEARNED = "learned"


class MaskedFields(TypedDict, total=False):
  """Fields of `MaskedModel` that its recipes take as they are; see there for what they mean and their defaults."""

  network: nn.Module | None
  steps: int
  likelihood: str
  num_orders: int
  order_seed: int
  class_conditional: bool


def masked(spec: DataSpec, *, schedule: str | Schedule = "linear", power: float = 2.0, num_noise_steps: int = 0,
           sampler: str = "", **common: Unpack[MaskedFields]) -> MaskedModel:
  """Return masked diffusion (absorbing D3PM, arXiv:2107.03006; in continuous time MD4, arXiv:2406.04329).

  Example:
    model = masked(DataSpec((128,), 65), schedule="linear", network=BidirectionalTransformer())

  Args:
    spec: the data.
    schedule: linear, cosine, polynomial, or a schedule. In continuous time the bound is the same for all, and they
      differ in the spread of its estimate: of one draw for 300 digits, by a trained network, 25.7 nats for linear, 39.9
      for cosine, 56.8 for polynomial; 21.5 for the orders of `ardm`. "learned" is made in training for the least
      spread: see `maskings.LearnedTime`.
    power: of the polynomial one.
    num_noise_steps: T of discrete time; 0 is continuous time.
    sampler: where none is given; "" is ancestral in discrete time, else one_by_one.
    common: the other fields of `MaskedModel`.

  Raise ConfigError where the schedule does not end at all masks, or a name is unknown.
  """
  sampler = sampler or ("ancestral" if num_noise_steps else "one_by_one")
  if isinstance(schedule, str):
    checks.one_of("schedule", schedule, (*SCHEDULES, LEARNED))
  if schedule == LEARNED:
    if num_noise_steps:
      raise ConfigError(f"schedule is 'learned' and num_noise_steps {num_noise_steps}; in steps the bound depends on "
                        "the schedule, which is learned for less noise in continuous time alone: num_noise_steps=0.")
    return MaskedModel(spec, LearnedTime(), sampler=sampler, **common)
  found = find_schedule(schedule, power)
  masking = Steps(found, num_noise_steps) if num_noise_steps else ContinuousTime(found)
  return MaskedModel(spec, masking, sampler=sampler, **common)


def find_schedule(schedule: str | Schedule, power: float = 2.0) -> Schedule:
  """Return the schedule that a name stands for; any other value as it is. Raise ConfigError for an unknown name."""
  if not isinstance(schedule, str):
    return schedule
  checks.one_of("schedule", schedule, SCHEDULES)
  return PolynomialSchedule(power) if schedule == "polynomial" else SCHEDULES[schedule]()
