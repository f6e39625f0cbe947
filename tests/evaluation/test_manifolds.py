"""Precision, recall, density and coverage: prdc's definitions, its published numbers, and intervals that cover."""

import numpy as np
import pytest

from gdm.errors import ConfigError, DataError
from gdm.evaluation import manifolds
from gdm.evaluation.manifolds import manifold_scores

NAMES = ("precision", "recall", "density", "coverage")


def by_definition(samples, data, k):
  """The four numbers by all distances at once, each a line, as Naeem et al. define them."""
  def apart(a, b):
    return np.sqrt(((a[:, None] - b) ** 2).sum(-1))

  between = apart(data, samples)
  radii = {name: np.sort(apart(points, points), axis=1)[:, k] for name, points in (("data", data), ("x", samples))}
  in_data = between < radii["data"][:, None]
  return {"precision": in_data.any(axis=0).mean(), "recall": (between < radii["x"]).any(axis=1).mean(),
          "density": in_data.sum(axis=0).mean() / k, "coverage": (between.min(axis=1) < radii["data"]).mean()}


@pytest.mark.parametrize("size", [1000, 7])
@pytest.mark.parametrize("k", [1, 5])
def test_numbers_are_those_of_the_definition_in_chunks_too(monkeypatch, size, k):
  monkeypatch.setattr(manifolds, "row_chunks", lambda num, columns: (
      slice(start, min(start + size, num)) for start in range(0, num, size)))
  rng = np.random.default_rng(0)
  samples, data = 1e3 + rng.normal(size=(70, 3)) + 0.5, 1e3 + rng.normal(size=(90, 3))
  found = manifold_scores(samples, data, k)
  for name, value in by_definition(samples, data, k).items():
    assert getattr(found, name).value == pytest.approx(value), name


def test_ties_of_whole_numbers_are_outside_as_a_ball_is_open():
  """Rounding decides nothing: distances of integers are exact by the definition, and not by products."""
  rng = np.random.default_rng(0)
  samples, data = (rng.integers(0, 3, (60, 4)).astype(float) for _ in range(2))
  found = manifold_scores(samples / 2.0 + 7.3, data / 2.0 + 7.3)
  for name, value in by_definition(samples, data, 5).items():
    assert getattr(found, name).value == pytest.approx(value), name


def test_far_sets_share_nothing_and_equal_ones_everything():
  x = np.random.default_rng(0).normal(size=(50, 2))
  far = manifold_scores(x + 100.0, x)
  assert [getattr(far, name).value for name in NAMES] == [0.0] * 4
  same = manifold_scores(x, x)
  assert same.precision.value == same.recall.value == same.coverage.value == 1.0
  assert same.precision.ci95.low < 1.0  # 50 points, all inside, leave room for others


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_intervals_cover_the_expected_numbers(shift):
  """Of 150 repetitions at 95 %, at least 134 (binomial, 99.8 %); the truth is the mean of 500 others."""
  rng = np.random.default_rng(2)

  def draw():
    return shift + rng.normal(size=(80, 2)), rng.normal(size=(100, 2))

  others = [by_definition(*draw(), 5) for _ in range(500)]
  found = [manifold_scores(*draw()) for _ in range(150)]
  for name in NAMES:
    mean = np.mean([each[name] for each in others])
    covered = sum(getattr(each, name).ci95.low <= mean <= getattr(each, name).ci95.high for each in found)
    assert covered >= 134, (name, mean, covered)


@pytest.mark.slow
def test_two_gaussians_of_a_thousand_dimensions_score_as_published():
  """Numbers of the prdc README are of one draw, as this one is: their errors add in squares."""
  rng = np.random.default_rng(0)
  found = manifold_scores(rng.normal(size=(10_000, 1000)), rng.normal(size=(10_000, 1000)))
  print(found)
  for name, value in zip(NAMES, (0.4772, 0.4705, 1.0555, 0.9735), strict=True):
    share = getattr(found, name)
    half = max(share.ci95.high - share.value, share.value - share.ci95.low)
    assert abs(share.value - value) < 2.0**0.5 * half, (name, share)


def test_what_has_no_neighbours_is_refused():
  x = np.random.default_rng(0).normal(size=(50, 2))
  with pytest.raises(DataError, match="6 samples are too few for balls of 5 neighbours"):
    manifold_scores(x[:6], x)
  with pytest.raises(ConfigError, match="k is 0"):
    manifold_scores(x, x, 0)
