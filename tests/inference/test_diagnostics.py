"""Mixing measured on autoregressions, whose effective sample size is known."""

import numpy as np
import pytest

from gdm.errors import ConfigError
from gdm.inference.diagnostics import (
    agreement,
    effective_sample_size,
    in_words,
    rank_normalize,
    rank_rhat,
    split_rhat,
)

RNG = np.random.default_rng(0)


def autoregression(rho, chains=4, num=4000):
  noise = RNG.normal(size=(chains, num)) * np.sqrt(1 - rho**2)
  x = np.empty((chains, num))
  x[:, 0] = RNG.normal(size=chains)
  for t in range(1, num):
    x[:, t] = rho * x[:, t - 1] + noise[:, t]
  return x


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_effective_sample_size_of_an_autoregression(rho):
  x = autoregression(rho)
  np.testing.assert_allclose(effective_sample_size(x), x.size * (1 - rho) / (1 + rho), rtol=0.2)
  assert split_rhat(x) < 1.02 and rank_rhat(x) < 1.02


def test_chains_that_disagree_are_seen():
  x = autoregression(0.0)
  assert split_rhat(x + np.arange(4)[:, None]) > 1.5
  assert split_rhat(x + np.linspace(0, 3, x.shape[1])) > 1.1  # a trend common to all: the halves disagree
  spread = x * np.array([1, 1, 1, 5])[:, None]
  assert split_rhat(spread) < 1.02 < 1.1 < rank_rhat(spread)
  assert effective_sample_size(x + np.arange(4)[:, None]) < 20


def test_draws_that_never_change_say_nothing():
  still = np.ones((2, 10))
  assert np.isnan(split_rhat(still)) and np.isnan(effective_sample_size(still))
  assert split_rhat(still * np.array([[1], [2]])) == np.inf


def test_ranks_are_normal_scores():
  scores = rank_normalize(np.exp(5 * RNG.normal(size=(4, 500))))
  np.testing.assert_allclose([scores.mean(), scores.std()], [0, 1], atol=0.02)


def test_too_few_draws_are_refused():
  with pytest.raises(ConfigError, match=r"draws has shape \(2, 3\)"):
    split_rhat(np.zeros((2, 3)))


def test_chains_of_two_values_are_compared_by_these():
  """Their distances from the median are all the same, which must not hide that the chains disagree."""
  stuck = np.repeat([0.0, 1.0], 3)[:, None] * np.ones(40)
  stuck[:, ::13] = 0.5  # so that they move a little
  assert rank_rhat(stuck) > 2
  fair = RNG.integers(0, 2, (6, 400)).astype(float)
  assert rank_rhat(fair) < 1.02


@pytest.mark.parametrize("draws, words", [
    (np.ones((3, 10)), "log f never changes"),
    (np.arange(3.0)[:, None] * np.ones(10), "log f stays where each chain began"),
    (np.where(np.arange(3)[:, None] == 1, np.nan, RNG.normal(size=(3, 10))), "log f is not finite in 1 of 3 chains"),
    (np.where(np.arange(3)[:, None] == 1, np.inf, RNG.normal(size=(3, 10))), "log f is not finite in 1 of 3 chains"),
    (autoregression(0.0), "of 16000 values of log f"),
])
def test_what_cannot_be_measured_is_said_in_words(draws, words):
  said = agreement("log f", draws)
  assert words in said and "nan" not in said.replace("finite", "")


def test_numbers_that_are_none_are_words():
  assert [in_words(value) for value in (0.12345, float("nan"), float("inf"))] == ["0.123", "unknown", "unknown"]
