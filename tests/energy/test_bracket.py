"""Both ends: on either side of the exact score where annealing reaches all; what is said where it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.baselines.independent import Independent
from gdm.dataspec import DataSpec
from gdm.energy.continuous.ebm import EBM
from gdm.energy.continuous.networks import MLPEnergy
from gdm.energy.discrete.rbm import RBM
from gdm.errors import ConfigError
from gdm.evaluation.bracket import Bracket, evaluate_bracket
from gdm.evaluation.split_likelihood import LogZ, SplitLikelihood
from gdm.likelihood import Kind

KEY = jax.random.key(0)


def test_a_normalized_model_has_no_bracket():
  model = Independent(DataSpec((6,), 2))
  with pytest.raises(ConfigError, match="Independent has no bracket"):
    evaluate_bracket(model, {}, {}, list, 10, key=KEY)


@pytest.mark.slow
def test_the_ends_close_on_the_exact_score():
  model = RBM(DataSpec((6,), 2), num_hidden=4)
  rng = np.random.default_rng(0)
  x = rng.integers(0, 2, (500, 6)).astype(np.uint8)
  params, carry = model.init(KEY, {"x": x})
  params = {**params, "model": jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), params["model"])}
  drawn = np.asarray(model.sample(params, carry, KEY, 2000).x)
  exact = float(np.mean(model.log_likelihood(params, carry, {"x": jnp.asarray(drawn)}, KEY).nats))
  brackets = [evaluate_bracket(model, params, carry, lambda: [{"x": drawn}], num, key=KEY) for num in (5, 200)]
  for bracket in brackets:
    assert (bracket.pessimistic.kind, bracket.optimistic.kind) == (Kind.SAMPLER_BOUND, Kind.UPPER_BOUND)
    assert bracket.pessimistic.nats_mean < exact + 0.02
    assert bracket.optimistic.nats_ci95[1] > exact
    assert bracket.has_upper_end and not bracket.refuted
  assert brackets[0].width > 0.05 > abs(brackets[1].width)
  assert brackets[1].to_json()["num_temperatures"] == 200
  assert np.ptp(brackets[1].width_ci95) < 0.2


@pytest.mark.slow
def test_integers_by_annealing_have_no_upper_end():
  x = np.random.default_rng(0).integers(0, 4, (30, 3)).astype(np.uint8)
  model = EBM(DataSpec((3,), 4), network=MLPEnergy((4,)), num_chains=20)
  bracket = evaluate_bracket(model, *model.init(KEY, {"x": x}), lambda: [{"x": x}], 5, key=KEY)
  assert bracket.optimistic.kind is Kind.ESTIMATE and not bracket.has_upper_end and not bracket.refuted
  assert "there is no upper end" in bracket.line


def ends(own, by_log_z, interval):
  """A bracket of three examples, by a log Z of a given interval."""
  scores = SplitLikelihood(own + np.array([-0.1, 0.0, 0.1]), np.full(3, 6), Kind.SAMPLER_BOUND, (), 1, True)
  log_z = LogZ(0.0, 0.1, interval, Kind.LOWER_BOUND, 12.3)
  return Bracket(100, scores, dataclasses.replace(scores, nats=scores.nats - own + by_log_z, kind=Kind.UPPER_BOUND,
                                                  log_z=log_z))


def test_what_crosses_by_more_than_noise_is_refuted_and_what_by_less_is_not():
  crossed = ends(-9.94, -12.24, (-0.1, 0.4))
  assert crossed.refuted and crossed.to_json()["refuted"] is True
  assert "the first is refuted as a bound of log p" in crossed.line and "chains worth 12.3" in crossed.line
  noisy = ends(-9.94, -9.99, (-0.1, 0.4))
  assert not noisy.refuted and "refuted" not in noisy.line


def test_the_distance_has_the_sides_of_log_z_s_interval():
  low, high = ends(-10.0, -9.0, (-0.1, 2.0)).width_ci95  # log Z may be 2 nats more, and the score so many less
  np.testing.assert_allclose([low, high], [1.0 - 2.0, 1.0 + 0.1], atol=1e-6)
