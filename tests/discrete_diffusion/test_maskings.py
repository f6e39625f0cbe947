"""Masks have their distribution, and weights make every masking an estimate of the same bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import all_states, assert_frequencies_match

from gdm.discrete_diffusion.maskings import ContinuousTime, LearnedTime, Orders, Steps, at_least_one
from gdm.discrete_diffusion.schedules import CosineSchedule, LinearSchedule, PolynomialSchedule, mask_rate
from gdm.errors import ConfigError
from gdm.inference.stratified import low_discrepancy_ranks

DIMS, NUM = 4, 40_000
UNEVEN = {"squares": jnp.arange(1.0, 9.0) ** 4, "seen": jnp.ones(8)}
MASKINGS = {"learned": LearnedTime(intervals=8).bind(UNEVEN), "linear": ContinuousTime(LinearSchedule()),
            "cosine": ContinuousTime(CosineSchedule()), "polynomial": ContinuousTime(PolynomialSchedule(3.0)),
            "steps": Steps(CosineSchedule(), 5), "one step": Steps(LinearSchedule(), 1), "orders": Orders()}


@pytest.mark.parametrize("m", [1e-6, 0.3, 1.0])
def test_masks_given_that_there_is_one(m):
  mask, some = at_least_one(jax.random.key(0), jnp.full(NUM, m, jnp.float32), jnp.ones((NUM, DIMS), bool))
  states = all_states(2, DIMS)[1:]
  num = states.sum(axis=1)
  probs = m**num * (1.0 - m) ** (DIMS - num)
  np.testing.assert_allclose(some, probs.sum(), rtol=1e-4)
  assert_frequencies_match(np.asarray(mask).astype(int), states, probs)


def test_the_numbers_of_masks_by_orders_are_uniform_and_so_are_the_masks_of_a_number():
  ranks = jax.random.uniform(jax.random.key(1), (NUM,))
  mask, weight = Orders().draw(jax.random.key(0), ranks, jnp.ones((NUM, DIMS), bool))
  states = all_states(2, DIMS)[1:]
  num = states.sum(axis=1)
  assert_frequencies_match(np.asarray(mask).astype(int), states, 1.0 / (DIMS * np.array([0, 4, 6, 4, 1])[num]))
  np.testing.assert_allclose(weight, DIMS / np.sum(mask, axis=1), rtol=1e-6)


@pytest.mark.parametrize("name", MASKINGS)
def test_a_predictor_of_known_loss_has_that_loss_as_its_bound(name):
  """A nat for each dimension, whatever is known of the others: the bound is D nats, for every schedule."""
  real = jnp.arange(DIMS) < jnp.where(jnp.arange(NUM) % 2, DIMS, 2)[:, None]  # every other example is shorter
  key, rank_key = jax.random.split(jax.random.key(0))
  mask, weight = MASKINGS[name].draw(key, low_discrepancy_ranks(rank_key, NUM), real)
  assert not np.any(mask & ~real)
  assert np.all(np.any(mask, axis=1))
  loss = np.asarray(weight * jnp.sum(mask, axis=1), np.float64)
  assert np.isfinite(loss).all()
  for rows, nats in ((loss[1::2], DIMS), (loss[::2], 2)):
    assert abs(rows.mean() - nats) < 5 * rows.std() / np.sqrt(len(rows)) + 1e-4


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "orders"])
def test_weights_in_continuous_time_are_no_larger_than_the_schedule_allows(name):
  """They would be as large as 1 / m where hardly anything is masked, were it not for the mask that there always is."""
  weight = MASKINGS[name].draw(jax.random.key(0), jnp.linspace(0.0, 1.0, NUM, endpoint=False),
                               jnp.ones((NUM, DIMS), bool)).weight
  assert float(jnp.max(weight)) <= DIMS * 3.0 + 1e-3  # D times the steepest rate, of the polynomial


def test_all_is_masked_at_the_last_time():
  for masking in (MASKINGS["cosine"], MASKINGS["one step"]):
    mask, weight = masking.draw(jax.random.key(0), jnp.zeros(3), jnp.ones((3, DIMS), bool))
    assert np.all(mask) and np.all(np.isfinite(weight))


def test_a_learned_schedule_spends_time_in_proportion_to_the_root_of_the_second_moment():
  """Where the estimate without its density is 3 times as large, three times the time makes its second moment least."""
  masking = LearnedTime(intervals=4, even=0.001)
  statistics = masking.init()

  def learn(statistics, key):
    ranks, schedule = jax.random.uniform(key, (256,)), masking.bind(statistics).schedule
    size = jnp.where(schedule.mask_prob(1.0 - ranks) < 0.5, 10.0, 30.0)
    return masking.learn(statistics, ranks, size * mask_rate(schedule, 1.0 - ranks)), None

  statistics, _ = jax.lax.scan(learn, statistics, jax.random.split(jax.random.key(0), 2000))
  schedule = masking.bind(statistics).schedule
  np.testing.assert_allclose(np.diff(schedule.times), [0.125, 0.125, 0.375, 0.375], atol=2e-3)
  np.testing.assert_array_equal(schedule.mask_prob(jnp.array([0.0, 1.0])), [0.0, 1.0])
  np.testing.assert_allclose(schedule.mask_prob(jnp.array(0.25)), 0.5, atol=5e-3)


@pytest.mark.parametrize(("fields", "words"), [({"intervals": 0}, "intervals is 0"), ({"even": 0.0}, "even is 0.0"),
                                               ({"decay": 1.5}, "decay is 1.5")])
def test_fields_of_a_learned_schedule_are_checked(fields, words):
  with pytest.raises(ConfigError, match=words):
    LearnedTime(**fields)
