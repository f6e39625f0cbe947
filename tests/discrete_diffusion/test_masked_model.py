"""Masked diffusion and order-agnostic models: bounds, orders, samples and completions against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from discrete_diffusion import spaces
from helpers.enumeration import assert_frequencies_match

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion import (
  ContinuousTime,
  CosineSchedule,
  FixedOrders,
  LearnedTime,
  LinearSchedule,
  Orders,
  PolynomialSchedule,
  Steps,
  ardm,
  masked,
)
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.coding.ways import claimed_model, way_of
from gdm.likelihood import Kind

SCHEDULES = (LinearSchedule(), CosineSchedule(), PolynomialSchedule(3.0))
KEY = jax.random.key(0)


def nats(model, dims, num_samples=1):
  score = jax.jit(lambda params, x: model.log_likelihood(params, {}, {"x": x}, KEY, num_samples).nats)
  return np.asarray(score(spaces.parameters(dims), jnp.asarray(spaces.conditionals(dims)[0])), np.float64)


def assert_unbiased(draws, exact):
  """The states' noise, each of its own draws, has mean 0."""
  assert abs((draws - exact).mean()) < 4.5 * (draws - exact).std() / np.sqrt(len(exact))


# Bounds.


@pytest.mark.fast_cases("masking3")
@pytest.mark.parametrize("masking", [Orders(), *map(ContinuousTime, SCHEDULES)])
def test_masked_diffusion_has_the_bound_of_order_agnostic_models_for_every_schedule(masking):
  exact, draws = spaces.orders_bound(6), nats(spaces.small(6, masking), 6, 256)
  assert np.exp(exact).sum() <= 1.0
  assert_unbiased(draws, exact)
  assert np.abs(draws - exact).mean() < 0.7  # of 14 nats; at 256 draws for each state


def test_a_learned_schedule_has_the_same_bound_with_less_noise():
  """Begun where a schedule is poor, so that there is something to learn: all its time goes to few masks."""
  model, x = spaces.small(6, LearnedTime(intervals=16)), jnp.asarray(spaces.conditionals(6)[0])
  poor = {"statistics": {"masking": {"squares": jnp.geomspace(1.0, 1e-4, 16), "seen": jnp.ones(16)}}}
  learn = jax.jit(lambda carry, key: model.loss(spaces.parameters(6), carry, {"x": x}, key, jnp.int32(0)).carry)
  learned = poor
  for index in range(500):
    learned = learn(learned, jax.random.key(index))

  def squares(carry):
    score = jax.jit(lambda key: model.log_likelihood(spaces.parameters(6), carry, {"x": x}, key).nats)
    draws = np.stack([score(jax.random.key(index)) for index in range(64)]).astype(np.float64)
    assert_unbiased(draws.mean(axis=0), spaces.orders_bound(6))
    return (draws**2).mean()

  assert squares(learned) < 0.7 * squares(poor)


def test_a_learned_schedule_is_of_continuous_time_and_samples_by_it():
  with pytest.raises(ConfigError, match=r"schedule is 'learned' and num_noise_steps 4.*num_noise_steps=0"):
    masked(DataSpec((3,), 2), schedule="learned", num_noise_steps=4)
  model = masked(DataSpec((3,), 2), schedule="learned")
  params, carry = model.init(KEY, {})
  drawn = model.sample(params, carry, KEY, 5, sampler="ancestral", num_steps=4).x
  assert drawn.shape == (5, 3)
  assert np.all((np.asarray(drawn) >= 0) & (np.asarray(drawn) < 2))


@pytest.mark.fast_cases("schedule2")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_bound_of_many_steps_is_that_of_continuous_time(schedule):
  limit = spaces.orders_bound(6)
  off = [np.abs(spaces.steps_bound(6, schedule, steps) - limit).mean() for steps in (4, 32, 256)]
  assert off[0] > 5 * off[1] > 25 * off[2]
  assert np.exp(spaces.steps_bound(6, schedule, 4)).sum() <= 1.0
  draws = nats(spaces.small(6, Steps(schedule, 4)), 6, 256)
  assert_unbiased(draws, spaces.steps_bound(6, schedule, 4))


def test_the_bound_is_below_what_it_bounds():
  assert np.all(spaces.orders_bound(6) <= spaces.one_by_one(6) + 1e-6)
  for schedule in SCHEDULES:
    whole = spaces.in_steps(3, schedule, 3)
    np.testing.assert_allclose(np.exp(whole).sum(), 1.0, rtol=1e-5)
    assert np.all(spaces.steps_bound(3, schedule, 3) <= whole + 1e-6)


# Orders.


def test_the_mixture_of_all_orders_is_found_exactly_and_sums_to_one():
  found = nats(spaces.small(6, likelihood="exact"), 6)
  np.testing.assert_allclose(found, spaces.one_by_one(6), atol=1e-4)
  np.testing.assert_allclose(np.exp(found).sum(), 1.0, rtol=1e-5)
  every = FixedOrders(spaces.small(3), tuple(itertools.permutations(range(3))))
  np.testing.assert_allclose(nats(every, 3), spaces.one_by_one(3), atol=1e-5)


def test_orders_tighten_the_bound_without_bias():
  whole, one, many = spaces.one_by_one(4), *(nats(spaces.small(4, likelihood="orders"), 4, num) for num in (1, 64))
  assert one.mean() < many.mean() < whole.mean() + 0.01
  assert abs(np.exp(many).sum() - 1.0) < 0.05
  assert spaces.orders_bound(4).mean() < many.mean() - 0.1


@pytest.mark.parametrize(("name", "kind", "unbiased"), [
    ("bound", Kind.LOWER_BOUND, False), ("orders", Kind.LOWER_BOUND, True), ("ensemble", Kind.EXACT, False),
    ("exact", Kind.EXACT, False)])
def test_a_likelihood_says_what_it_is(name, kind, unbiased):
  found = spaces.small(3).scored_by(name).log_likelihood(spaces.parameters(3), {}, {"x": np.zeros((2, 3), int)}, KEY)
  assert (found.kind, found.unbiased) == (kind, unbiased)


def test_an_order_that_is_no_permutation_is_refused():
  for order, words in (((0, 1, 1), r"must be a permutation of 0 to 2; it lacks 2"),
                       ((0, 1), r"has shape \(2,\).*it lacks 2"), ((0, 1, 2, 3), "it has 4 entries")):
    with pytest.raises(ConfigError, match=words):
      FixedOrders(spaces.small(3), ((2, 1, 0), order))


def test_too_many_dimensions_for_all_orders_are_refused():
  model = ardm(DataSpec((13,), 2), likelihood="exact")
  params, carry = model.init(KEY, {})
  with pytest.raises(SpecError, match=r"sums over the 2\^13 subsets.*at most 12"):
    model.log_likelihood(params, carry, {"x": np.zeros((1, 13), int)}, KEY)


# Coding.


@pytest.mark.parametrize("num_orders", [1, 3])
def test_coded_bits_are_those_of_the_mixture_of_fixed_orders(num_orders):
  model, params = spaces.small(6), spaces.parameters(6)
  x = spaces.conditionals(6)[0][np.random.default_rng(0).permutation(729)[:200]]
  way = way_of(model, num_orders)
  coder = way.coder(params, {}, 40)
  words = coder.encode(x)
  np.testing.assert_array_equal(coder.decode(words, len(x))[0], x)
  claimed = claimed_model(model, num_orders).log_likelihood(params, {}, {"x": x}, KEY)
  assert claimed.kind is Kind.EXACT
  bits = -float(np.sum(claimed.nats)) / np.log(2.0)
  assert abs(32 * len(words) - bits) < 72 + 40 * np.log2(num_orders) + 0.002 * bits


# Samples.


def test_samples_one_by_one_come_from_the_mixture_of_all_orders():
  drawn = spaces.small(4).sample(spaces.parameters(4), {}, KEY, 20_000)
  assert drawn.info["nfe"] == 4
  assert_frequencies_match(drawn.x, spaces.conditionals(4)[0], np.exp(spaces.one_by_one(4)))


@pytest.mark.parametrize("schedule", SCHEDULES[1:])
def test_ancestral_samples_come_from_the_model_of_so_many_steps(schedule):
  drawn = spaces.small(3, Steps(schedule, 3), sampler="ancestral").sample(spaces.parameters(3), {}, KEY, 20_000)
  assert drawn.info["nfe"] == 3
  assert_frequencies_match(drawn.x, spaces.conditionals(3)[0], np.exp(spaces.in_steps(3, schedule, 3)))


def test_tau_leaping_in_many_steps_comes_near_the_model_in_continuous_time():
  drawn = spaces.small(3).sample(spaces.parameters(3), {}, KEY, 3000, sampler="tau_leaping", num_steps=300)
  assert_frequencies_match(drawn.x, spaces.conditionals(3)[0], np.exp(spaces.one_by_one(3)))


def test_confident_samples_are_likelier_and_top_p_draws_from_the_likeliest():
  whole = dict(zip(map(tuple, spaces.conditionals(4)[0].tolist()), spaces.one_by_one(4), strict=True))

  def mean(**options):
    drawn = spaces.small(4).sample(spaces.parameters(4), {}, KEY, 2000, **options).x
    return np.mean([whole[tuple(row)] for row in np.asarray(drawn).tolist()])

  plain = mean()
  assert mean(sampler="confidence") > plain + 0.05
  assert mean(top_p=0.5) > plain + 0.3


@pytest.mark.fast_cases("1-tau_leaping", "1-ancestral", "3-ancestral", "1-confidence")
@pytest.mark.parametrize("sampler", ["one_by_one", "confidence", "ancestral", "tau_leaping"])
@pytest.mark.parametrize("num_steps", [1, 3, 9])
def test_nothing_stays_masked(sampler, num_steps):
  x = spaces.small(4).sample(spaces.parameters(4), {}, KEY, 50, sampler=sampler, num_steps=num_steps).x
  assert np.all((np.asarray(x) >= 0) & (np.asarray(x) < spaces.LEVELS))


def test_any_region_is_filled_in_given_the_rest():
  """By the orders in which the rest comes first."""
  first, value = (1, 3), (2, 0)
  x = np.zeros((20_000, 4), np.int32)
  x[:, first] = value
  known = np.isin(np.arange(4), first)
  drawn = np.asarray(spaces.small(4).complete(spaces.parameters(4), {}, KEY, x, known).x)
  np.testing.assert_array_equal(drawn[:, first], x[:, first])
  states = spaces.conditionals(4)[0]
  rows = np.all(states[:, first] == value, axis=1)
  assert_frequencies_match(drawn, states[rows], np.exp(spaces.one_by_one(4, first)[rows]))


# Lengths, and errors.


@pytest.mark.fast_cases("ensemble", "exact")
@pytest.mark.parametrize("likelihood", ["bound", "orders", "ensemble", "exact"])
def test_padding_changes_nothing(likelihood):
  model = masked(DataSpec((5,), 3, has_lengths=True), likelihood=likelihood)
  params, carry = model.init(KEY, {})
  x, length = np.array([[0, 1, 2, 0, 0], [2, 2, 1, 1, 0]]), np.array([3, 5])
  found = [model.log_likelihood(params, carry, {"x": each, "length": length}, KEY, 64)
           for each in (x, np.where(np.arange(5) < length[:, None], x, 99))]
  np.testing.assert_array_equal(found[0].num_dims, length)
  np.testing.assert_array_equal(found[0].nats, found[1].nats)
  assert np.all(np.isfinite(found[0].nats))
  # Nearly uniform at first: each real dimension costs about log 3.
  np.testing.assert_allclose(found[0].nats, -np.log(3.0) * length, rtol=0.4)


def test_what_cannot_be_is_refused():
  spec = DataSpec((3,), 2)
  for fields, words in (({"likelihood": "elbo"}, "likelihood is 'elbo'"), ({"sampler": "gibbs"}, "sampler is 'gibbs'"),
                        ({"num_orders": 0}, "num_orders is 0"), ({"steps": -1}, "steps is -1")):
    with pytest.raises(ConfigError, match=words):
      ardm(spec, **fields)
  with pytest.raises(ConfigError, match="likelihood ensemble has no setting 'orders'"):
    ardm(spec).scored_by("ensemble", orders=3)
  with pytest.raises(SpecError, match="needs discrete data"):
    ardm(DataSpec((3,), None))
  with pytest.raises(SpecError, match="is not conditional"):
    ardm(spec).sample({}, {}, KEY, 2, condition=1)
