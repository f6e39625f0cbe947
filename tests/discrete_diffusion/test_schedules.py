"""Mask schedules: exact ends, a rate that is the derivative, and errors for what is none."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion import masked
from gdm.discrete_diffusion.masked import find_schedule
from gdm.discrete_diffusion.schedules import SCHEDULES, mask_rate, require_ends
from gdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Line:
  """From `start` to `end`, with a dip in the middle."""

  start: float = 0.0
  end: float = 1.0
  fall: float = 0.0

  def mask_prob(self, t):
    return self.start + (self.end - self.start) * t - self.fall * t * (1.0 - t)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ends_are_exact_and_the_rate_is_the_slope(name):
  schedule = find_schedule(name)
  require_ends(schedule)
  t, step = jnp.linspace(0.1, 0.9, 9), 1e-3
  slope = (schedule.mask_prob(t + step) - schedule.mask_prob(t - step)) / (2 * step)
  np.testing.assert_allclose(mask_rate(schedule, t), slope, rtol=1e-3)


@pytest.mark.parametrize(("schedule", "words"), [
    (Line(end=1.0 - 1e-5), "masks a dimension at t = 1 with probability 0.99998.*; it must be exactly 1.*infinite"),
    (Line(start=1e-3), "at t = 0 with probability 0.001.*; it must be 0"), (Line(fall=2.0), "must rise with time")])
def test_other_schedules_are_refused(schedule, words):
  for steps in (0, 4):
    with pytest.raises(ConfigError, match=words):
      masked(DataSpec((3,), 2), schedule=schedule, num_noise_steps=steps)


def test_unknown_names_are_refused():
  with pytest.raises(ConfigError, match="schedule is 'cosinus'; did you mean 'cosine'"):
    masked(DataSpec((3,), 2), schedule="cosinus")
