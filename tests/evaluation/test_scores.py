"""Scores beside a report, and differences paired by example."""

import dataclasses
import math

import numpy as np
import pytest

from gdm.errors import DataError
from gdm.evaluation.scores import Scores, paired_difference, read_scores, scores_path, write_scores
from gdm.evaluation.split_likelihood import LogZ, SplitLikelihood
from gdm.likelihood import Kind


def scored(nats, num_dims=None):
  nats = np.asarray(nats, np.float64)
  dims = np.full(len(nats), 4) if num_dims is None else np.asarray(num_dims)
  return SplitLikelihood(nats, dims, Kind.EXACT, (), 1, discrete=True)


def report_of(likelihood):
  return {"num_examples": likelihood.num_examples, "nats_mean": likelihood.nats_mean, "kind": "exact"}


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
  in_nats = paired_difference([first], [second], is_discrete=False)
  np.testing.assert_allclose(in_nats.mean, 0.5 + 0.1 * noise.mean(), rtol=1e-6)
  np.testing.assert_allclose(in_nats.stderr, 0.1 * noise.std(ddof=1) / math.sqrt(500), rtol=1e-6)
  in_bits = paired_difference([first], [second], is_discrete=True)
  np.testing.assert_allclose(in_bits[:2], (-in_nats.mean / (4 * math.log(2)), in_nats.stderr / (4 * math.log(2))))
  np.testing.assert_allclose(in_bits.ci95, -np.array(in_nats.ci95)[::-1] / (4 * math.log(2)))
  assert paired_difference([first], [first], is_discrete=True) == (0.0, 0.0, (0.0, 0.0), Kind.EXACT)


def shared(nats, stderr, kind=Kind.EXACT, halves=None):
  return Scores(np.asarray(nats, float), np.full(len(nats), 2), kind, stderr, halves or (2 * stderr, 2 * stderr))


def test_what_all_examples_share_is_in_the_interval_on_its_side():
  """A log Z that may be far too high makes scores that may be far too low, and differences from them too high."""
  sure, unsure = shared([1.0, 1.0], 0.0), shared([2.0, 2.0], 0.5, halves=(0.1, 3.0))
  np.testing.assert_allclose(paired_difference([unsure], [sure], is_discrete=False).ci95, (1 - 0.1, 1 + 3.0))
  np.testing.assert_allclose(paired_difference([sure], [unsure], is_discrete=False).ci95, (-1 - 3.0, -1 + 0.1))
  bits = paired_difference([unsure], [sure], is_discrete=True)
  np.testing.assert_allclose(bits.ci95, np.array([-1 - 3.0, -1 + 0.1]) / (2 * math.log(2)))


def test_means_of_several_and_what_occurs_on_both_sides():
  one, two = shared([1.0, 2.0, 3.0], 0.3), shared([3.0, 2.0, 1.0], 0.4)
  other = shared([2.0, 2.0, 2.0], 0.0)
  found = paired_difference([one, two], [other], is_discrete=False)
  np.testing.assert_allclose(found[:2], (0.0, 0.25), atol=1e-12)
  np.testing.assert_allclose(found.ci95, (-0.5, 0.5))
  half = paired_difference([one], [one, two], is_discrete=False)  # half of one is left, against half of the other
  np.testing.assert_allclose(half.stderr, math.hypot(0.5 * 2.0 / math.sqrt(3), 0.15, 0.2))
  bound = shared([1.0, 2.0, 3.0], 0.0, Kind.LOWER_BOUND)
  assert paired_difference([bound, one], [other], is_discrete=False).kind is Kind.LOWER_BOUND
  assert paired_difference([other], [bound, one], is_discrete=False).kind is Kind.UPPER_BOUND
  assert paired_difference([bound], [bound], is_discrete=False).kind is Kind.EXACT
  with pytest.raises(DataError, match="at least two"):
    paired_difference([shared([1.0], 0.0)], [shared([1.0], 0.0)], is_discrete=False)


def test_the_interval_of_what_is_shared_comes_back_and_that_of_before_is_normal(tmp_path):
  likelihood = scored([-1.0, -2.5, -4.0])
  path = tmp_path / "scores_test.npz"
  np.savez(path, nats=likelihood.nats, num_dims=likelihood.num_dims, normalizer_stderr=0.5)
  np.testing.assert_allclose(read_scores(path, report_of(likelihood)).normalizer_halves, [0.98, 0.98], rtol=1e-3)
  asymmetric = dataclasses.replace(likelihood, log_z=LogZ(5.0, 0.5, (4.0, 5.2), Kind.LOWER_BOUND))
  write_scores(path, asymmetric)
  np.testing.assert_allclose(read_scores(path, report_of(likelihood)).normalizer_halves, (0.2, 1.0))
