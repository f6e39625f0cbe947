import jax
import numpy as np
import pytest
from helpers.enumeration import Batches, all_states, log_probs

from gdm.baselines.table import Table
from gdm.dataspec import DataSpec
from gdm.errors import SpecError


def test_frequencies_are_recovered():
  probs = np.random.default_rng(0).dirichlet(np.ones(27))
  counted = np.round(probs * 1e5).astype(int)
  states = all_states(3, 3)
  model = Table(DataSpec((3,), 3), alpha=1e-6)
  params, carry = model.solve(jax.random.key(0), Batches(np.repeat(states, counted, axis=0), size=10_000))
  np.testing.assert_allclose(np.exp(log_probs(model, params, carry, states)), counted / counted.sum(), atol=1e-6)


def test_unseen_states_get_what_their_dimensions_alone_say():
  x = np.array([[0, 0], [0, 0], [0, 1], [1, 0]])
  model = Table(DataSpec((2,), 2), alpha=1.0)
  params, carry = model.solve(jax.random.key(0), Batches(x))
  marginal = (3 + 1) / (4 + 2)  # of 0, in both dimensions
  unseen = 3 * (1 - marginal)**2 / (4 + 3)  # three states were seen: three pseudo-counts in all
  np.testing.assert_allclose(np.exp(log_probs(model, params, carry, np.array([[1, 1]]))), [unseen], rtol=1e-5)


def test_too_large_a_space_is_refused():
  with pytest.raises(SpecError, match=r"17\^64 states, more than model.max_states \(1048576\)"):
    Table(DataSpec((8, 8, 1), 17))
