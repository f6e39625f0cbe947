"""Areas under ROC curves against their definition, and sets of other pictures."""

import numpy as np
import pytest
from scipy.stats import norm

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.outliers import patches, rotated, separation, shuffled

GREY = DataSpec((2, 3, 1), 4)


def test_the_area_is_the_share_of_pairs_in_order():
  rng = np.random.default_rng(0)
  inside, outside = rng.integers(0, 9, 40).astype(float), rng.integers(-2, 7, 30).astype(float)
  pairs = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
  found = separation(inside, outside)
  np.testing.assert_allclose(found.auroc, pairs.mean(), rtol=1e-12)
  by_definition = pairs.mean(axis=1).var(ddof=1) / 40 + pairs.mean(axis=0).var(ddof=1) / 30
  np.testing.assert_allclose(found.stderr, by_definition ** 0.5, rtol=1e-9)


def test_two_normals_are_told_apart_as_theory_says():
  rng = np.random.default_rng(1)
  errors = [(found.auroc - norm.cdf(1.0 / 2**0.5)) / found.stderr for found in (
      separation(rng.normal(1.0, 1.0, 200), rng.normal(0.0, 1.0, 300)) for _ in range(200))]
  assert abs(np.mean(errors)) < 0.25 and 0.85 < np.std(errors) < 1.15


def test_scores_that_cannot_be_compared_are_told():
  with pytest.raises(ConfigError, match="inside has 3 scores, 1 of them NaN"):
    separation(np.array([1.0, np.nan, 2.0]), np.zeros(3))
  with pytest.raises(ConfigError, match="outside has 1 scores"):
    separation(np.zeros(3), np.zeros(1))


def test_shuffling_keeps_each_picture_s_pixels_together_with_their_channels():
  x = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
  found = shuffled(x, 0)
  assert not np.array_equal(found, x) and not np.array_equal(found[0] + 48, found[1])
  for before, after in zip(x, found, strict=True):
    assert sorted(map(tuple, after.reshape(-1, 3))) == sorted(map(tuple, before.reshape(-1, 3)))
  np.testing.assert_array_equal(rotated(rotated(rotated(rotated(x, 0), 0), 0), 0), x)
  with pytest.raises(SpecError, match="only square"):
    rotated(x[:, :2], 0)


def test_patches_are_cut_in_the_levels_of_the_data():
  ramp = np.broadcast_to(np.arange(0, 256, 16, dtype=np.uint8)[None, :, None, None], (3, 16, 5, 3))
  found = patches(ramp, GREY, 500, 0)
  assert found.shape == (500, 2, 3, 1) and set(np.unique(found)) == {0, 1, 2, 3}
  assert np.all(found[:, 1] >= found[:, 0]) and np.all(found[..., 0, :] == found[..., 2, :])
  for pictures, spec in ((ramp[:, :1], GREY), (ramp[..., :2], GREY)):
    with pytest.raises(SpecError, match="no patch of shape"):
      patches(pictures, spec, 5, 0)
  with pytest.raises(SpecError, match="pictures of integers"):
    patches(ramp, DataSpec((2, 2, 1), None), 5, 0)
