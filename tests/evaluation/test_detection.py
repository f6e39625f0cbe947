"""Measures of detection against scikit-learn's and by hand; their intervals; p-values."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from gdm.errors import ConfigError
from gdm.evaluation.detection import detection, p_values


def scores(seed=0, ties=False, inside=400, outside=300):
  rng = np.random.default_rng(seed)
  ours, theirs = rng.normal(1.0, 1.0, inside), rng.normal(0.0, 1.2, outside)
  return (np.round(ours), np.round(theirs)) if ties else (ours, theirs)


@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_those_of_scikit_learn(ties):
  ours, theirs = scores(ties=ties)
  found, both = detection(ours, theirs), np.concatenate([ours, theirs])
  is_ours = np.repeat([1, 0], [len(ours), len(theirs)])
  np.testing.assert_allclose(found.auroc.value, roc_auc_score(is_ours, both), rtol=1e-12)
  np.testing.assert_allclose(found.aupr_inside.value, average_precision_score(is_ours, both), rtol=1e-12)
  np.testing.assert_allclose(found.aupr_outside.value, average_precision_score(1 - is_ours, -both), rtol=1e-12)
  false, true, _ = roc_curve(is_ours, both, drop_intermediate=False)
  assert found.fpr95.value == false[true >= 0.95].min()


@pytest.mark.slow
@pytest.mark.fast_cases("auroc")
@pytest.mark.parametrize("measure", ["auroc", "aupr_inside", "aupr_outside", "fpr95"])
def test_intervals_are_as_wide_as_samples_of_that_size_differ(measure):
  """Of 60 pairs of samples, the intervals cover the number of large samples in 95 % of cases, but for chance."""
  truth = getattr(detection(*scores(99, inside=40_000, outside=30_000)), measure).value
  hits = sum(low <= truth <= high for low, high in (
      getattr(detection(*scores(seed, inside=200, outside=150)), measure).ci95 for seed in range(60)))
  assert scipy.stats.binomtest(hits, 60, 0.95).pvalue > 1e-3


def test_perfect_detection_and_none():
  found = detection(np.arange(10.0) + 100, np.arange(20.0))
  assert [measure.value for measure in found] == [1.0, 1.0, 1.0, 0.0] and 0.1 < found.fpr95.ci95.high < 0.2
  found = detection(np.zeros(10), np.zeros(30))
  assert [measure.value for measure in found] == [0.5, 0.25, 0.75, 1.0]
  with pytest.raises(ConfigError, match="outside has 1 scores"):
    detection(np.zeros(3), np.zeros(1))


def test_p_values_are_uniform_for_data_and_small_for_what_scores_lower():
  rng = np.random.default_rng(0)
  found = p_values(rng.normal(size=999), rng.normal(size=2000))
  assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3 and found.min() > 0.0 and found.max() <= 1.0
  np.testing.assert_allclose(p_values(np.array([3.0, 1.0, 2.0]), np.array([0.0, 2.0, 9.0])), [0.25, 0.75, 1.0])
  with pytest.raises(ConfigError, match="reference has no scores"):
    p_values(np.zeros(0), np.zeros(2))
