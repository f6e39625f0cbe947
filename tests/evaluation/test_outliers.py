"""Areas under ROC curves against their definition, and sets of other pictures."""

import numpy as np
import pytest
from scipy.stats import t

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
  parts = pairs.mean(axis=1).var(ddof=1) / 40, pairs.mean(axis=0).var(ddof=1) / 30
  degrees = sum(parts)**2 / (parts[0]**2 / 39 + parts[1]**2 / 29)
  odds = pairs.mean() / (1.0 - pairs.mean())
  half = t.ppf(0.975, degrees) * sum(parts)**0.5 / (pairs.mean() * (1.0 - pairs.mean()))
  np.testing.assert_allclose(found.ci95, [1.0 / (1.0 + np.exp(side * half) / odds) for side in (1, -1)], rtol=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_separation_is_not_certain(sign):
  """Of 20 examples, those that never overlap may yet do so once in six."""
  found = separation(sign * np.arange(1.0, 21.0), -sign * np.arange(1.0, 301.0))
  assert found.auroc == (1.0 if sign > 0 else 0.0)
  np.testing.assert_allclose(found.ci95, (1 - 0.16843, 1.0) if sign > 0 else (0.0, 0.16843), atol=1e-5)
  assert found.ci95[1] - found.ci95[0] > 0.1


def test_scores_that_are_all_alike_tell_nothing_apart():
  found = separation(np.zeros(12), np.zeros(30))
  assert found.auroc == 0.5 and found.ci95[0] < 0.25 and found.ci95[1] > 0.75


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
