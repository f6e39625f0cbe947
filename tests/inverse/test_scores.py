"""Scores of restored images: by hand, and where their values are known."""

import numpy as np
import pytest

from gdm.errors import ConfigError, SpecError
from gdm.inverse.scores import coverage, psnr, ssim

RNG = np.random.default_rng(0)


def test_the_ratio_of_signal_to_noise():
  truth = RNG.random((2, 5, 5, 1))
  np.testing.assert_allclose(psnr(truth + 0.1, truth, 1.0), 20.0)
  assert psnr(truth, truth, 1.0)[0] == np.inf


def test_structural_similarity_by_hand_and_its_limits():
  one, other = 255 * RNG.random((2, 3, 13, 12, 1))
  np.testing.assert_allclose(ssim(one, one, 255.0), 1.0)
  assert np.all(ssim(one, 255.0 - one, 255.0) < 0.0)
  place = np.arange(11) - 5
  window = np.exp(-0.5 * (place[:, None] ** 2 + place**2) / 1.5**2)
  window /= window.sum()
  values = []
  for row in range(3):
    for column in range(2):
      x, y = (each[0, row:row + 11, column:column + 11, 0] for each in (one, other))
      mean, of_other = np.sum(window * x), np.sum(window * y)
      variance, other_variance = np.sum(window * (x - mean) ** 2), np.sum(window * (y - of_other) ** 2)
      covariance = np.sum(window * (x - mean) * (y - of_other))
      values.append((2 * mean * of_other + 2.55**2) * (2 * covariance + 7.65**2)
                    / ((mean**2 + of_other**2 + 2.55**2) * (variance + other_variance + 7.65**2)))
  assert ssim(one, other, 255.0)[0] == pytest.approx(np.mean(values), abs=1e-9)
  with pytest.raises(SpecError, match="at least 3 x 3"):
    ssim(one[:, :2], other[:, :2], 255.0)


@pytest.mark.parametrize("levels", [None, 3])
def test_draws_of_the_truths_own_law_cover_as_often_as_stated(levels):
  draws = RNG.normal(size=(20, 40, 100))
  draws = draws if levels is None else np.clip(np.round(draws), -1, 1)
  found = coverage(draws[:19], draws[19])
  assert found.stated == pytest.approx(0.9) and abs(found.share - 0.9) < 0.02
  assert coverage(draws[:3], draws[19]).stated == pytest.approx(0.5)
  narrow = coverage(0.3 * RNG.normal(size=(19, 40, 100)), RNG.normal(size=(40, 100)))
  assert narrow.share < 0.6
  with pytest.raises(ConfigError, match="number of draws is 1"):
    coverage(draws[:1], draws[19])
