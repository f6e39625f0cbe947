"""EM's promise: the likelihood, or with a prior the posterior, never falls."""

import jax
import numpy as np
import pytest
from helpers.enumeration import Batches, log_probs

from gdm.baselines.gaussian_mixture import GaussianMixture
from gdm.baselines.mixture import Mixture
from gdm.dataspec import DataSpec
from gdm.errors import SpecError


def binary_data(num=400, dims=12, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.random((num, dims)) < rng.beta(0.3, 0.3, size=(5, dims))[rng.integers(5, size=num)]).astype(np.uint8)


def real_data(num=400, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(num, 3)) * [0.1, 1.0, 5.0] + rng.normal(size=(4, 3))[rng.integers(4, size=num)]
          ).astype(np.float32)


def history(model, x, seed=0):
  told = []
  params, carry = model.solve(jax.random.key(seed), Batches(x, size=150), lambda i, metrics: told.append((i, metrics)))
  assert [i for i, _ in told] == list(range(len(told)))
  nll, objective = (np.array([metrics[name] for _, metrics in told]) for name in ("nll", "objective"))
  np.testing.assert_allclose(nll[-1], -log_probs(model, params, carry, x).mean(), rtol=1e-5)
  return nll, objective


SPACE = DataSpec((3,), None)
SCHEDULE = {"num_restarts": 2, "restart_iterations": 5, "num_iterations": 40, "tolerance": 0.0}
ROUNDING = 1e-6  # in nats per example


def assert_never_rises(values):
  """And it ends where it must: after the last iteration, or at a maximum up to rounding."""
  assert len(values) > 3
  assert np.diff(values).max() < ROUNDING
  assert len(values) == SCHEDULE["num_iterations"] + 1 or values[-2] - values[-1] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("make, x", [
    pytest.param(lambda: Mixture(DataSpec((12,), 2), 6, alpha=1e-9, **SCHEDULE), binary_data(), id="bernoulli"),
    pytest.param(lambda: Mixture(DataSpec((12,), 4), 6, alpha=1e-9, **SCHEDULE), binary_data() * 3, id="categorical"),
    pytest.param(lambda: GaussianMixture(SPACE, 6, "diag", alpha=0.0, **SCHEDULE), real_data(), id="diag"),
    pytest.param(lambda: GaussianMixture(SPACE, 6, "full", alpha=0.0, **SCHEDULE), real_data(), id="full"),
    # A floor that binds: the bounded M-step keeps the promise too.
    pytest.param(lambda: GaussianMixture(SPACE, 9, "full", alpha=0.0, variance_floor=0.3, **SCHEDULE), real_data(),
                 id="full_floor"),
])
def test_the_likelihood_never_falls(make, x):
  nll, _ = history(make(), x)
  assert_never_rises(nll)


@pytest.mark.fast_cases("bernoulli")
@pytest.mark.parametrize("make, x", [
    pytest.param(lambda: Mixture(DataSpec((12,), 2), 6, alpha=2.0, **SCHEDULE), binary_data(), id="bernoulli"),
    pytest.param(lambda: GaussianMixture(SPACE, 6, alpha=5.0, **SCHEDULE), real_data(), id="full"),
])
def test_the_posterior_never_falls(make, x):
  _, objective = history(make(), x)
  assert_never_rises(objective)


@pytest.mark.slow
def test_more_restarts_are_no_worse():
  x = binary_data()
  ends = [history(Mixture(DataSpec((12,), 2), 8, num_restarts=n, restart_iterations=40, num_iterations=40), x)[1][-1]
          for n in (1, 6)]
  assert ends[1] <= ends[0] + 0.02  # starts differ with their number, so not exactly


def test_tolerance_ends_the_run():
  model = Mixture(DataSpec((12,), 2), 3, num_restarts=1, num_iterations=500, tolerance=1e-2)
  assert len(history(model, binary_data())[0]) < 100


def test_impossible_schedules_are_refused():
  with pytest.raises(SpecError, match=r"model\.num_restarts is 0"):
    Mixture(DataSpec((12,), 2), num_restarts=0)
  with pytest.raises(SpecError, match=r"model\.num_components is 0"):
    Mixture(DataSpec((12,), 2), num_components=0)
