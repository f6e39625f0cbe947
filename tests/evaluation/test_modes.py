"""Modes of mixtures: what draws of the mixture itself score, and what is missed when parts of it are."""

import numpy as np
import pytest

from gdm.errors import NotFiniteError
from gdm.evaluation.modes import count_modes

CENTERS = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
DEVIATION = np.array([0.05, 0.02])


def draw(parts, num, rng):
  return CENTERS[rng.integers(parts, size=num)] + DEVIATION * rng.normal(size=(num, 2))


def test_the_mixture_reaches_all_and_scores_what_theory_says():
  found = count_modes(draw(25, 5000, np.random.default_rng(0)), CENTERS, DEVIATION)
  assert found.num_modes == (25.0, (25.0, 25.0)) and found.known == 25 and found.num == 5000
  low, high = found.high_quality.ci95
  assert low <= 1.0 - np.exp(-4.5) <= high
  assert found.reverse_kl is not None and found.reverse_kl.ci95.low == 0.0 and found.reverse_kl.value < 0.003


def test_parts_that_are_missed_are_counted():
  rng = np.random.default_rng(1)
  samples = np.concatenate([draw(17, 4000, rng), rng.uniform(10.0, 20.0, (1000, 2))])
  found = count_modes(samples, CENTERS, DEVIATION)
  assert found.num_modes.value == 17
  assert found.high_quality.value == pytest.approx(0.8 * (1.0 - np.exp(-4.5)), abs=0.005)
  assert found.reverse_kl is not None
  low, high = found.reverse_kl.ci95
  assert low <= np.log(25 / 17) <= high  # of samples of high quality only


def test_samples_far_from_all_have_no_modes():
  found = count_modes(np.full((10, 2), 0.5), CENTERS, DEVIATION)
  assert found.num_modes.value == 0 and found.high_quality.value == 0.0 and found.reverse_kl is None
  with pytest.raises(NotFiniteError, match="sample 3"):
    count_modes(np.where(np.arange(10)[:, None] == 3, np.nan, np.zeros((10, 2))), CENTERS, DEVIATION)
