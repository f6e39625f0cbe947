"""Divergences of histograms: closed forms, bias, and intervals that cover; the number of classes found."""

import numpy as np
import pytest

from gdm.errors import DataError
from gdm.evaluation.histograms import distinct, divergence

SKEWED = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
UNIFORM = np.full(6, 1.0 / 6.0)


def test_the_divergence_is_from_samples_to_the_reference():
  """17 of 25 modes alike: log(25 / 17) however the reference weighs those left out, which counts in one direction."""
  counts = np.where(np.arange(25) < 17, 10_000, 0)
  found = divergence(counts, np.full(25, 1 / 25))
  assert found.plug_in == pytest.approx(np.log(25 / 17))
  assert found.value == pytest.approx(found.plug_in - 16 / (2 * 170_000))
  assert divergence(np.array([1, 3]), np.array([0.5, 0.5])).plug_in == pytest.approx(
      0.25 * np.log(0.5) + 0.75 * np.log(1.5))


@pytest.mark.parametrize("counted", [False, True], ids=("exact", "counted"))
@pytest.mark.parametrize("p", [SKEWED, UNIFORM], ids=("skewed", "uniform"))
def test_intervals_of_divergences_cover(p, counted):
  """Of 1,000 at 95 %, at least 930; 982 at most where the two differ."""
  rng = np.random.default_rng(0)
  truth = float(np.sum(p * np.log(p / UNIFORM)))
  found = [divergence(rng.multinomial(400, p), rng.multinomial(700, UNIFORM) if counted else UNIFORM)
           for _ in range(1000)]
  covered = sum(each.ci95.low <= truth <= each.ci95.high for each in found)
  assert 930 <= covered <= (982 if p is SKEWED else 1000), covered
  values = np.array([each.value for each in found])
  assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(1000) + 2e-4


def test_a_class_that_the_data_lack_leaves_a_finite_divergence():
  assert 0.0 < divergence(np.array([50, 50]), np.array([100, 0])).value < 10.0
  with pytest.raises(DataError, match="0 samples"):
    divergence(np.array([0, 0]), UNIFORM[:2])


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_intervals_of_the_number_of_classes_cover(decay):
  """Of 500 draws of 2,500 from 1,000 classes, alike or not, at least 450 cover the expected number found."""
  rng = np.random.default_rng(0)
  p = np.exp(-decay * np.arange(1000))
  p /= p.sum()
  expected = float(np.sum(1.0 - (1.0 - p) ** 2500))
  found = [distinct(rng.multinomial(2500, p)) for _ in range(500)]
  assert sum(each.ci95.low <= expected <= each.ci95.high for each in found) >= 450
  assert np.mean([each.value for each in found]) == pytest.approx(expected, rel=0.01)


def test_what_was_found_often_is_all_there_is():
  assert distinct(np.array([50, 60, 70])) == (3.0, (3.0, 3.0))
  assert distinct(np.array([0, 0, 0])) == (0.0, (0.0, 0.0))
