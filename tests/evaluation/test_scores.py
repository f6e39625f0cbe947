"""Scores beside a report, and differences paired by example."""

import math

import numpy as np
import pytest

from gdm.errors import DataError
from gdm.evaluation.likelihood import SplitLikelihood
from gdm.evaluation.scores import Scores, mean_scores, paired_difference, read_scores, scores_path, write_scores
from gdm.likelihood import Kind


def scored(nats, num_dims=None):
  nats = np.asarray(nats, np.float64)
  dims = np.full(len(nats), 4) if num_dims is None else np.asarray(num_dims)
  return SplitLikelihood(nats, dims, Kind.EXACT, (), 1, discrete=True)


def report_of(likelihood):
  return {"num_examples": likelihood.num_examples, "nats_mean": likelihood.nats_mean}


def test_scores_come_back_and_only_with_their_own_report(tmp_path):
  likelihood = scored([-1.0, -2.5, -4.0])
  path = scores_path(tmp_path / "likelihood_test.json")
  assert path == tmp_path / "scores_test.npz"
  assert read_scores(path, report_of(likelihood)) is None
  write_scores(path, likelihood)
  found = read_scores(path, report_of(likelihood))
  assert found is not None
  np.testing.assert_array_equal(found.nats, likelihood.nats)
  np.testing.assert_array_equal(found.num_dims, likelihood.num_dims)
  assert read_scores(path, {**report_of(likelihood), "nats_mean": -2.6}) is None
  assert read_scores(path, {**report_of(likelihood), "num_examples": 4}) is None
  path.write_bytes(path.read_bytes()[:50])
  with pytest.raises(DataError, match="holds no scores"):
    read_scores(path, report_of(likelihood))


def test_a_paired_difference_knows_what_both_have_in_common():
  rng = np.random.default_rng(0)
  hard, noise = 10.0 * rng.normal(size=500), rng.normal(size=500)
  first, second = (Scores(nats, np.full(500, 4)) for nats in (hard + 0.5 + 0.1 * noise, hard))
  in_nats = paired_difference(first, second, is_discrete=False)
  np.testing.assert_allclose(in_nats.mean, 0.5 + 0.1 * noise.mean(), rtol=1e-6)
  np.testing.assert_allclose(in_nats.stderr, 0.1 * noise.std(ddof=1) / math.sqrt(500), rtol=1e-6)
  in_bits = paired_difference(first, second, is_discrete=True)
  np.testing.assert_allclose(in_bits, (-in_nats.mean / (4 * math.log(2)), in_nats.stderr / (4 * math.log(2))))
  assert paired_difference(first, first, is_discrete=True) == (0.0, 0.0)


def test_its_interval_covers_the_truth():
  """Of examples of unlike length, whose bits/dim is a ratio of sums."""
  rng, covered = np.random.default_rng(1), 0
  for _ in range(400):
    dims = rng.integers(1, 50, size=200)
    other = -2.0 * dims * rng.gamma(5.0, 0.2, size=200)
    first = other + dims * (0.1 + 0.3 * rng.normal(size=200))
    difference = paired_difference(Scores(first, dims), Scores(other, dims), is_discrete=True)
    covered += abs(difference.mean + 0.1 / math.log(2.0)) < 1.96 * difference.stderr
  assert 0.92 < covered / 400 < 0.98


def test_means_of_several_and_what_all_examples_share():
  dims = np.full(3, 2)
  mean = mean_scores([Scores(np.array([1.0, 2.0, 3.0]), dims, 0.3), Scores(np.array([3.0, 2.0, 1.0]), dims, 0.4)])
  np.testing.assert_allclose(mean.nats, 2.0)
  np.testing.assert_allclose(mean.normalizer_stderr, 0.25)
  other = Scores(np.array([2.0, 2.0, 2.0]), dims)
  np.testing.assert_allclose(paired_difference(mean, other, is_discrete=False), (0.0, 0.25))
  with pytest.raises(DataError, match="at least two"):
    paired_difference(Scores(np.ones(1), dims[:1]), Scores(np.ones(1), dims[:1]), is_discrete=False)
