import numpy as np
import pytest

from gdm.baselines import tables
from gdm.errors import SpecError


def test_smoothing_is_the_dirichlet_posterior_mean():
  counted = np.array([[3.0, 0.0, 1.0]])
  np.testing.assert_allclose(tables.smooth(counted, alpha=0.5), (counted + 0.5) / (4 + 1.5))


def test_a_row_never_seen_says_what_its_coarser_context_says():
  # Rows are (second parent, first parent) = (0,0), (0,1), (1,0), (1,1); with first parent 1 only (0,1) was seen.
  counted = np.array([[5.0, 1.0], [2.0, 8.0], [4.0, 4.0], [0.0, 0.0]])
  smoothed = tables.smooth(counted, alpha=0.5)
  first_alone = tables.smooth(counted.reshape(2, 2, 2).sum(axis=0), alpha=0.5)
  np.testing.assert_allclose(smoothed[3], first_alone[1])
  np.testing.assert_allclose(smoothed.sum(axis=1), 1.0)
  np.testing.assert_allclose(smoothed[0], (counted[0] + 1.0 * first_alone[0]) / (6 + 1.0))


def test_without_pseudo_counts_only_frequencies_remain():
  counted = np.random.default_rng(0).integers(1, 50, size=(9, 3)).astype(float)
  np.testing.assert_allclose(tables.smooth(counted, 1e-9), counted / counted.sum(axis=1, keepdims=True), rtol=1e-6)


def test_tables_too_large_are_refused_with_their_size():
  with pytest.raises(SpecError, match=r"17 levels with up to 8 parents need \d+ cells"):
    tables.layout_of(((), tuple(range(8))), 17)
