import itertools

import jax
import numpy as np
import pytest
import scipy.sparse.csgraph
from helpers.enumeration import Batches, log_probs

from gdm.baselines.bayesian_network import BayesianNetwork
from gdm.baselines.chow_liu import ChowLiu, maximum_spanning_tree, mutual_information
from gdm.dataspec import DataSpec
from gdm.errors import SpecError


def edges_of(parents):
  return {frozenset((child, int(parent))) for child, parent in enumerate(parents) if parent >= 0}


def tree_data(parents, levels, num, rng, keep=0.7):
  """Each dimension repeats its parent (shifted) with probability `keep`, else is uniform; parents come first."""
  x = rng.integers(levels, size=(num, len(parents)))
  for dim, parent in enumerate(parents):
    if parent >= 0:
      x[:, dim] = np.where(rng.random(num) < keep, (x[:, parent] + dim) % levels, x[:, dim])
  return x


@pytest.mark.fast_cases("4")
@pytest.mark.parametrize("levels", [2, 4])
def test_finds_a_planted_tree(levels):
  rng = np.random.default_rng(0)
  planted = np.array([-1] + [rng.integers(dim) for dim in range(1, 20)])
  x = tree_data(planted, levels, 5000, rng)
  model = ChowLiu(DataSpec((20,), levels))
  params, _ = model.solve(jax.random.key(0), Batches(x, size=1500))
  assert edges_of(params["model"]["parents"]) == edges_of(planted)
  seen = set()
  for dim in params["model"]["order"].tolist():
    assert params["model"]["parents"][dim] == -1 or int(params["model"]["parents"][dim]) in seen
    seen.add(dim)
  assert seen == set(range(20))


def rooted(edges, num_nodes):
  """The parents of a tree given by its edges, rooted at 0; None if they form no tree."""
  parents = {0: ()}
  for _ in range(num_nodes):
    for a, b in [*edges, *((b, a) for a, b in edges)]:
      if a in parents and b not in parents:
        parents[b] = (a,)
  return tuple(parents[dim] for dim in range(num_nodes)) if len(parents) == num_nodes else None


@pytest.mark.slow
def test_no_other_tree_is_likelier():
  """All 125 trees on five nodes, each fitted as a Bayesian network."""
  x = np.random.default_rng(3).integers(2, size=(60, 5)) | np.random.default_rng(4).integers(2, size=(60, 1))
  spec = DataSpec((5,), 2)
  all_edges = list(itertools.combinations(range(5), 2))
  trees = [tree for edges in itertools.combinations(all_edges, 4) if (tree := rooted(edges, 5))]
  assert len(trees) == 5**3  # Cayley's formula
  one_hot = np.eye(2)[x]
  pairs = np.einsum("nia,njb->ijab", one_hot, one_hot)
  information = mutual_information(pairs)
  totals = [sum(information[dim, own[0]] for dim, own in enumerate(tree) if own) for tree in trees]
  model = ChowLiu(spec, alpha=1e-6)
  params, carry = model.solve(jax.random.key(0), Batches(x))
  found = params["model"]["parents"]
  np.testing.assert_allclose(sum(information[dim, parent] for dim, parent in enumerate(found) if parent >= 0),
                             max(totals), rtol=1e-12)
  # And information is likelihood: the same ranking, with the same gaps.
  ours = log_probs(model, params, carry, x).sum()
  for index in np.argsort(totals)[[-1, -2, 0]]:
    network = BayesianNetwork(spec, trees[index], alpha=1e-6)
    other = log_probs(network, *network.solve(jax.random.key(0), Batches(x)), x).sum()
    np.testing.assert_allclose(ours - other, len(x) * (max(totals) - totals[index]), atol=1e-2)


def test_spanning_tree_has_the_weight_that_scipy_finds():
  for seed in range(5):
    weights = np.random.default_rng(seed).random((30, 30))
    weights = weights + weights.T
    parents, _ = maximum_spanning_tree(weights)
    ours = sum(weights[child, parent] for child, parent in enumerate(parents) if parent >= 0)
    tree = scipy.sparse.csgraph.minimum_spanning_tree(np.triu(3.0 - weights, 1))
    np.testing.assert_allclose(ours, 3.0 * 29 - tree.sum())


def test_mutual_information_of_known_tables():
  same, independent = np.diag([3.0, 1.0]), np.outer([1.0, 2.0], [3.0, 1.0])
  entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
  np.testing.assert_allclose(mutual_information(np.stack([[same, independent], [independent, same]])),
                             [[entropy, 0.0], [0.0, entropy]], atol=1e-12)


def test_one_dimension_is_a_tree():
  model = ChowLiu(DataSpec((1,), 2))
  params, carry = model.solve(jax.random.key(0), Batches(np.array([[0], [1], [1]])))
  np.testing.assert_allclose(np.exp(log_probs(model, params, carry, np.array([[1]]))), [3 / 5], rtol=1e-5)


def test_too_many_pairs_are_refused():
  with pytest.raises(SpecError, match="3072 x 256"):
    ChowLiu(DataSpec((32, 32, 3), 256))
