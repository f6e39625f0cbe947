"""Truths of the Frechet distance: closed forms, no bias after extrapolation, and intervals that cover."""

import numpy as np
import pytest

from gdm.errors import DataError, NotFiniteError
from gdm.evaluation.frechet import FeatureMoments, frechet_distance, squared_distance


def test_two_gaussians_in_closed_form():
  """Commuting covariances: |m - m'|^2 + the sum of squared differences of deviations."""
  rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
  a = FeatureMoments(np.array([0.0, 1.0, 2.0]), rotation @ np.diag([1.0, 4.0, 0.0]) @ rotation.T)
  b = FeatureMoments(np.array([1.0, 1.0, 0.0]), rotation @ np.diag([9.0, 1.0, 0.25]) @ rotation.T)
  assert squared_distance(a, b) == pytest.approx(5.0 + 4.0 + 1.0 + 0.25)
  assert squared_distance(b, a) == pytest.approx(squared_distance(a, b))
  assert squared_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_covariances_that_do_not_commute():
  """Of 2 x 2 matrices, tr (S S')^1/2 = (tr S S' + 2 (det S S')^1/2)^1/2."""
  s, t = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
  cross = np.sqrt(np.trace(s @ t) + 2.0 * np.sqrt(np.linalg.det(s @ t)))
  found = squared_distance(FeatureMoments(np.zeros(2), s), FeatureMoments(np.zeros(2), t))
  assert found == pytest.approx(np.trace(s) + np.trace(t) - 2.0 * cross)


def test_moments_are_those_of_numpy_far_from_the_origin():
  x = 1e6 + np.random.default_rng(0).normal(size=(50, 3))
  moments = FeatureMoments.of(x)
  np.testing.assert_allclose(moments.mean, x.mean(axis=0))
  np.testing.assert_allclose(moments.covariance, np.cov(x.T), rtol=1e-8)


@pytest.mark.fast_cases("apart")
@pytest.mark.parametrize(("shift", "scale"), [(0.3, 2.0), (0.0, 1.0)], ids=("apart", "alike"))
def test_intervals_cover_and_the_bias_is_gone(shift, scale):
  """Of 200 repetitions at 95 %, 181 to 198 cover (binomial, 99 %); of sets alike the interval may be too wide."""
  rng, scales = np.random.default_rng(1), np.array([scale, 1.0])
  truth = 2 * shift**2 + (scale - 1.0) ** 2
  found = [frechet_distance(shift + scales * rng.normal(size=(120, 2)), rng.normal(size=(90, 2))) for _ in range(200)]
  covered = sum(each.ci95.low <= truth <= each.ci95.high for each in found)
  values = np.array([each.value for each in found])
  assert 181 <= covered <= (198 if shift else 200)
  assert abs(values.mean() - truth) < 3.0 * values.std() / np.sqrt(200)
  if not shift:  # as FIDs are reported
    assert np.mean([each.plug_in for each in found]) > truth + 10.0 * values.std() / np.sqrt(200)


def test_few_examples_are_refused():
  rng = np.random.default_rng(0)
  with pytest.raises(DataError, match=r"20 samples of 30 features are too few .* at least 35"):
    frechet_distance(rng.normal(size=(20, 30)), rng.normal(size=(90, 30)))
  with pytest.raises(NotFiniteError, match="sample 4 hold NaN"):
    frechet_distance(np.where(np.arange(20)[:, None] == 4, np.nan, np.zeros((20, 2))), rng.normal(size=(20, 2)))
