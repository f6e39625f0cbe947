import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import Batches, all_states, log_probs

from gdm.baselines.markov import MarkovChain
from gdm.baselines.table import Table
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError


def chains(transition, num, length, rng):
  """Draws from a homogeneous chain that starts evenly."""
  x = np.empty((num, length), np.int64)
  x[:, 0] = rng.integers(len(transition), size=num)
  for i in range(1, length):
    cumulative = np.cumsum(transition[x[:, i - 1]], axis=1)
    x[:, i] = (rng.random((num, 1)) > cumulative).sum(axis=1)
  return x


def test_homogeneous_chain_recovers_the_transition_matrix():
  rng = np.random.default_rng(0)
  transition = rng.dirichlet(np.ones(4), size=4)
  model = MarkovChain(DataSpec((50,), 4), homogeneous=True)
  params, _ = model.solve(jax.random.key(0), Batches(chains(transition, 2000, 50, rng)))
  assert params["model"]["logits"].shape == (1 + 4, 4)
  np.testing.assert_allclose(np.exp(params["model"]["logits"][1:]), transition, atol=0.02)


@pytest.mark.fast_cases("True")
@pytest.mark.parametrize("homogeneous", [False, True])
def test_probability_is_the_product_of_conditional_frequencies(homogeneous):
  x = np.random.default_rng(1).integers(2, size=(400, 6))
  model = MarkovChain(DataSpec((6,), 2), order=2, homogeneous=homogeneous, alpha=1e-6)
  params, carry = model.solve(jax.random.key(0), Batches(x))
  states = all_states(2, 6)[::5]
  expected = np.zeros(len(states))
  for row, state in enumerate(states):
    for i in range(6):
      k = min(i, 2)
      places = range(2, 6) if homogeneous and i >= 2 else (i,)
      seen = np.concatenate([x[:, p - k:p + 1] for p in places])
      context = np.all(seen[:, :k] == state[i - k:i], axis=1)
      expected[row] += np.log(np.mean(seen[context, k] == state[i]))
  np.testing.assert_allclose(log_probs(model, params, carry, states), expected, atol=1e-3)


def test_full_order_is_the_full_table():
  x = np.random.default_rng(2).integers(3, size=(3000, 3))
  states = all_states(3, 3)
  spec = DataSpec((3,), 3)
  chain, table = MarkovChain(spec, order=9, alpha=1e-7), Table(spec, alpha=1e-7)
  found, expected = (log_probs(m, *m.solve(jax.random.key(0), Batches(x)), states) for m in (chain, table))
  np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.fast_cases("True")
@pytest.mark.parametrize("homogeneous", [False, True])
def test_steps_give_the_conditionals_of_one_pass(homogeneous):
  x = np.random.default_rng(3).integers(3, size=(50, 5))
  model = MarkovChain(DataSpec((5,), 3), order=2, homogeneous=homogeneous)
  params, carry = model.solve(jax.random.key(0), Batches(x))
  cache, total = model.init_cache(params, len(x)), np.zeros(len(x))
  for index in range(5):
    cache, logits = model.conditional_step(params, cache, jnp.asarray(x[:, max(index - 1, 0)]), jnp.int32(index))
    total += np.asarray(logits)[np.arange(len(x)), x[:, index]]
  np.testing.assert_allclose(total, log_probs(model, params, carry, x), rtol=1e-5)
  assert (model.context is None) == homogeneous


def test_order_zero_and_orders_too_high_are_refused():
  with pytest.raises(SpecError, match=r"model\.order is 0"):
    MarkovChain(DataSpec((4,), 2), order=0)
  with pytest.raises(SpecError, match="a lower order"):
    MarkovChain(DataSpec((8, 8, 1), 17), order=6)


def test_a_chain_of_an_order_that_no_example_is_longer_than_generates_no_longer_ones():
  """It looked its later steps up in rows of other pasts."""
  x = np.random.default_rng(0).integers(2, size=(40, 3))
  model = MarkovChain(DataSpec((3,), 2), order=3, homogeneous=True)
  params, _ = model.solve(jax.random.key(0), Batches(x))
  assert model.context == 3
  with pytest.raises(ConfigError, match="max_length is 4, but the context is 3"):
    model.generate(params, jax.random.key(0), num=2, max_length=4)
