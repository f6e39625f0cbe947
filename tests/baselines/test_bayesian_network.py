import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import Batches, all_states, log_probs

from gdm.baselines.bayesian_network import BayesianNetwork, parents_by_offsets, topological_order
from gdm.dataspec import DataSpec
from gdm.errors import SpecError

# Listed so that some parents come after their children.
PARENTS = ((3,), (0, 4), (), (2,), ())


def test_probability_is_the_product_of_conditionals():
  x = np.random.default_rng(0).integers(3, size=(900, 5))
  model = BayesianNetwork(DataSpec((5,), 3), PARENTS, alpha=1e-6)
  params, carry = model.solve(jax.random.key(0), Batches(x))
  states = all_states(3, 5)[::7]
  expected = np.zeros(len(states))
  for row, state in enumerate(states):
    for dim, parents in enumerate(PARENTS):
      context = np.all(x[:, list(parents)] == state[list(parents)], axis=1)
      expected[row] += np.log(np.mean(x[context, dim] == state[dim]))
  np.testing.assert_allclose(log_probs(model, params, carry, states), expected, atol=1e-3)


def test_recovers_a_planted_network():
  rng = np.random.default_rng(1)
  tables = {dim: rng.uniform(0.1, 0.9, size=(2,) * len(parents)) for dim, parents in enumerate(PARENTS)}

  def probs_of_one(x, dim):
    return tables[dim][tuple(x[:, p] for p in PARENTS[dim])]

  x = np.zeros((20_000, 5), np.int64)
  for dim in topological_order(PARENTS):
    x[:, dim] = rng.random(len(x)) < probs_of_one(x, dim)
  model = BayesianNetwork(DataSpec((5,), 2), PARENTS)
  states = all_states(2, 5)
  truth = sum(np.log(np.where(states[:, dim] == 1, probs_of_one(states, dim), 1 - probs_of_one(states, dim)))
              for dim in range(5))
  found = log_probs(model, *model.solve(jax.random.key(0), Batches(x, size=5000)), states)
  divergence = np.sum(np.exp(truth) * (truth - found))
  assert 0 <= divergence < 1e-3


def test_a_cycle_is_named():
  with pytest.raises(SpecError, match="no cycle") as error:
    BayesianNetwork(DataSpec((5,), 2), ((), (3,), (1,), (2,), (0,)))
  path = str(error.value).split("has ")[-1].split(" (")[0].split(" -> ")
  assert path[0] == path[-1] and set(path) == {"1", "2", "3"}
  parents = {1: 3, 2: 1, 3: 2}
  assert all(parents[int(child)] == int(parent) for parent, child in itertools.pairwise(path))


@pytest.mark.parametrize("parents, message", [
    (((), ()), "has 2 entries; it needs one for each of the 3"),
    (((), (0,), (3,)), r"model\.parents\[2\] is \(3,\)"),
    (((), (0, 0), ()), r"model\.parents\[1\] is \(0, 0\)"),
    ((), "by one of model.parents and model.offsets"),
])
def test_impossible_graphs_are_refused(parents, message):
  with pytest.raises(SpecError, match=message):
    BayesianNetwork(DataSpec((3,), 2), parents)


def test_offsets_reach_neighbours_inside_the_event():
  parents = parents_by_offsets((2, 3, 1), ((0, -1, 0), (-1, 0, 0)))
  assert parents == ((), (0,), (1,), (0,), (3, 1), (4, 2))
  assert parents_by_offsets((2, 2), ((-1,), (-2,))) == ((), (0,), (1, 0), (2, 1))
  with pytest.raises(SpecError, match=r"must all have length 3"):
    BayesianNetwork(DataSpec((2, 3, 1), 2), offsets=((0, -1),))


def test_completes_only_where_parents_are_known():
  model = BayesianNetwork(DataSpec((5,), 2), PARENTS)
  params, carry = model.init(jax.random.key(0), {"x": jnp.zeros((1, 5), jnp.int32)})
  with pytest.raises(SpecError, match="dimension 0 is known and its parent 3 is not"):
    model.complete(params, carry, jax.random.key(0), jnp.zeros((1, 5), jnp.int32), jnp.arange(5) == 0)
