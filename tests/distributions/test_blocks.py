"""Blocks of mutually exclusive bits: tables, log-probabilities over all patterns, draws that follow them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from helpers.enumeration import all_states, assert_frequencies_match

from gdm.dataspec import DataSpec
from gdm.distributions import blocks
from gdm.errors import ConfigError

SPEC = DataSpec((3, 3), 2, blocks=((0, 2, 5), (1,), (3, 4, 6, 7), (8,)))
KEY = jax.random.key(0)


@pytest.mark.parametrize("spec", [SPEC, DataSpec((6,), 2)])
def test_tables_are_the_partition(spec):
  tables = blocks.blocks_of(spec)
  members = spec.blocks or tuple((i,) for i in range(spec.num_dims))
  assert [tuple(int(i) for i in dims if i < spec.num_dims) for dims in tables.dims] == list(members)
  assert tables.sizes.tolist() == [len(block) for block in members]
  assert all(i in members[tables.owner[i]] for i in range(spec.num_dims))
  for group in tables.groups:
    assert [members[v] for v in group.variables] == [tuple(dims) for dims in group.dims.tolist()]
  assert sorted(v for group in tables.groups for v in group.variables) == list(range(len(members)))


def test_ones_are_counted_by_block():
  x = np.random.default_rng(0).integers(2, size=(20, 9))
  expected = np.stack([x[:, list(block)].sum(axis=1) for block in SPEC.blocks], axis=1)
  np.testing.assert_array_equal(blocks.count_ones(blocks.blocks_of(SPEC), jnp.asarray(x)), expected)


def pattern_probs(states, size, fallback):
  """Probability of every pattern of a block of `size`, from those of its states (none first), by `log_prob`."""
  patterns = all_states(2, size)
  ones = patterns.sum(axis=1)
  state = np.where(ones == 0, np.log(states[0]), np.log(np.maximum(patterns @ states[1:], 1e-30)))
  scores = blocks.log_prob(blocks.blocks_of(SPEC), jnp.asarray(state, jnp.float32), np.full(len(ones), size), ones,
                           fallback)
  return patterns, np.exp(np.asarray(scores, np.float64))


@pytest.mark.fast_cases("2")
@pytest.mark.parametrize("size", [1, 2, 4])
def test_patterns_sum_to_one_and_mix_in_laplaces_rule(size):
  states = np.random.default_rng(size).dirichlet(np.ones(size + 1))
  patterns, probs = pattern_probs(states, size, fallback=0.2)
  np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-6)
  if size == 1:
    np.testing.assert_allclose(probs, states, rtol=1e-6)
  else:
    ones = patterns.sum(axis=1)
    expected = 0.2 / ((size + 1) * scipy.special.binom(size, ones))
    np.testing.assert_allclose(probs[ones > 1], expected[ones > 1], rtol=1e-5)
    np.testing.assert_allclose(probs[0], 0.8 * states[0] + expected[0], rtol=1e-5)


@pytest.mark.fast_cases("4")
@pytest.mark.parametrize("size", [1, 3, 4])
def test_draws_follow_the_probabilities_whatever_the_padding(size):
  states = np.random.default_rng(size).dirichlet(np.ones(size + 1))
  logits = jnp.asarray(np.append(np.log(states), np.full(4 - size, -np.inf)), jnp.float32)
  drawn = np.asarray(blocks.draw(KEY, jnp.tile(logits, (20_000, 1)), np.full(20_000, size), 0.2))
  assert drawn.shape == (20_000, 4) and not drawn[:, size:].any()
  assert_frequencies_match(drawn[:, :size], *pattern_probs(states, size, 0.2))


@pytest.mark.slow
def test_low_temperature_draws_the_likeliest_state():
  logits = jnp.asarray([[0.0, 1.0, 0.5, 0.0, 0.0]])
  drawn = blocks.draw(KEY, jnp.tile(logits, (500, 1)), np.full(500, 4), 0.2, temperature=0.01)
  np.testing.assert_array_equal(drawn, np.tile([1, 0, 0, 0], (500, 1)))


@pytest.mark.slow
def test_gradients_are_finite_for_every_pattern():
  x = jnp.asarray(list(itertools.product((0, 1), repeat=4)))
  ones = jnp.sum(x, axis=1)

  def total(logits):
    state = jnp.sum(jnp.where(x > 0, logits, 0.0), axis=1) - jnp.logaddexp(jax.nn.logsumexp(logits), 0.0)
    return blocks.log_prob(blocks.blocks_of(SPEC), state, jnp.full(16, 4), ones, 1e-6).sum()

  for scale in (1.0, 300.0):
    value, grad = jax.value_and_grad(total)(scale * jax.random.normal(KEY, (4,)))
    assert np.isfinite(value) and np.isfinite(grad).all()


@pytest.mark.parametrize("fallback", [0.0, 1.0, float("nan")])
def test_a_fallback_that_leaves_patterns_impossible_is_refused(fallback):
  with pytest.raises(ConfigError, match=f"fallback is {fallback}"):
    blocks.require_fallback(fallback)
