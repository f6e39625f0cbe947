"""Modes that annealing from the data's marginals never reaches: found from elsewhere, and log Z set right."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.energy.continuous.gaussian_rbm import GaussianRBM
from gdm.energy.discrete.ising import Ising
from gdm.energy.discrete.rbm import RBM
from gdm.energy.normalizers import least_acceptance
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.report import build_report, one_line
from gdm.inference import annealed_importance as annealing
from gdm.inference import gibbs, missed_modes
from gdm.likelihood import Kind
from tests.energy.test_annealed_draws import given

KEY = jax.random.key(0)
DIMS = 20
DATA = (np.random.default_rng(0).random((300, DIMS)) < 0.02).astype(np.uint8)  # nearly all zeros


@functools.cache
def two_modes(elsewhere=0.9, dims=DIMS):
  """An RBM that is a mixture of two products, about zeros, where the data are, and with `elsewhere` about ones."""
  model = RBM(DataSpec((dims,), 2), num_hidden=1, normalizer="ais", num_temperatures=100, num_chains=100)
  params, carry = model.init(KEY, {"x": DATA[:, :dims]})
  mean = np.asarray(jax.nn.sigmoid(params["base"]["logits"]))
  # h = 0 and 1 give logits of -5 and 5; the hidden bias gives both their masses.
  weights = np.full((dims, 1), 10.0)
  bias = math.log(elsewhere / (1.0 - elsewhere)) - 5.0 * dims + mean @ weights[:, 0]
  params["model"] = {"weights": jnp.asarray(weights, jnp.float32), "visible_bias": jnp.zeros(dims),
                     "hidden_bias": jnp.full(1, bias, jnp.float32)}
  return model, params, carry


@pytest.mark.slow
def test_a_mode_away_from_the_data_is_found_and_both_ends_are_told_apart():
  """Nine tenths of the mass: both ends would be log(10) too high, and agree."""
  model, params, carry = two_modes()
  x = {"x": jnp.asarray(DATA)}
  truth = float(jnp.mean(dataclasses.replace(model, normalizer="exact").log_likelihood(params, carry, x, KEY).nats))
  alone = annealing.estimate(annealing.forward(model.path(params), annealing.ladder(100), KEY, 100).log_weights)
  exact = float(model.enumerated_log_normalizer(params))
  assert exact - float(alone.nats) > 2.0 > 20 * float(alone.stderr)  # it is sure, and wrong
  found = evaluate_likelihood(model, params, carry, [x], key=KEY)
  by_log_z, = found.alternatives
  assert found.kind is Kind.SAMPLER_BOUND and found.nats_mean > truth + 2.0
  assert by_log_z.kind is Kind.UPPER_BOUND and abs(by_log_z.nats_mean - truth) < 0.2
  low, high = by_log_z.log_z.ci95
  assert low - 0.05 < exact < high + 0.05
  assert found.refuted and abs(found.pessimistic_nats - truth) < 0.2
  assert abs(by_log_z.log_z.missed - 0.9) < 0.05
  line = one_line(build_report(found, model="rbm", dataset="bits", split="test", step=1, data_fingerprint="ab",
                               parameters="live", num_params=1, train_seconds=1.0, evaluation={}))
  assert "refuted as a bound of log p" in line and "a mode was missed: 9" in line


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [0.3, 0.5, 0.99])
def test_modes_of_any_mass_are(elsewhere):
  model, params, carry = two_modes(elsewhere)
  found, = model.log_normalizer(params, carry, KEY)
  np.testing.assert_allclose(found.nats, model.enumerated_log_normalizer(params), atol=0.1)
  np.testing.assert_allclose(found.missed, elsewhere, atol=0.1)


@pytest.mark.slow
def test_a_mode_that_only_chains_visit_is_found_by_these():
  """At a pattern that is neither the data nor their opposite."""
  model, params, _ = two_modes()
  pattern = (np.arange(DIMS) % 3 == 0).astype(np.float32)
  mean = np.asarray(jax.nn.sigmoid(params["base"]["logits"]))
  weights = 10.0 * pattern[:, None]
  bias = math.log(9.0) - 5.0 * pattern.sum() + mean @ weights[:, 0]
  params = {**params, "model": {"weights": jnp.asarray(weights), "hidden_bias": jnp.asarray([bias], jnp.float32),
                                "visible_bias": jnp.asarray(np.where(pattern, 0.0, -5.0), jnp.float32)}}
  chains = np.random.default_rng(0).random((8, 16, DIMS)) < np.where(pattern, 0.95, 0.02)
  found, = model.log_normalizer(params, {"chains": jnp.asarray(chains, jnp.uint8)}, KEY)
  np.testing.assert_allclose(found.nats, model.enumerated_log_normalizer(params), atol=0.15)
  assert float(found.missed) > 0.5


@pytest.mark.slow
def test_the_mirror_image_of_an_ising_model_is_found():
  """The base stands at one mode; the other has e^8 times its mass, and log Z would be 8 nats off."""
  dims = 16
  model = Ising(DataSpec((dims,), 2), normalizer="ais", num_temperatures=100, num_chains=100)
  params, carry = model.init(KEY, {"x": DATA[:, :dims]})
  params["base"] = {"logits": jnp.full(dims, -4.0)}
  mean = float(jax.nn.sigmoid(-4.0))
  # log f(ones) - log f(zeros) = bias . 1 + terms of the centred couplings; the bias makes it 8.
  couplings = jnp.ones((dims, dims))
  ends = 0.5 * dims * (dims - 1) * ((1 - mean) ** 2 - mean**2)
  params["model"] = {"couplings": couplings, "bias": jnp.full(dims, (8.0 - ends) / dims)}
  exact = float(model.enumerated_log_normalizer(params))
  alone = annealing.estimate(annealing.forward(model.path(params), annealing.ladder(100), KEY, 100).log_weights)
  assert exact - float(alone.nats) > 4.0
  found, = model.log_normalizer(params, carry, KEY)
  np.testing.assert_allclose(found.nats, exact, atol=0.2)
  assert float(found.missed) > 0.9


@pytest.mark.slow
def test_a_gaussian_s_far_component_is_found():
  model = GaussianRBM(DataSpec((3,), None), num_hidden=1, normalizer="ais", num_temperatures=100, num_chains=100)
  x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
  params, carry = model.init(KEY, {"x": x})
  # v given h is about bias +- weights / 2: one at 0, where the data are, and one at 16.
  weights, scale = jnp.full((3, 1), 16.0), jnp.exp(params["model"]["log_scale"])
  params["model"] = {**params["model"], "weights": weights, "visible_bias": jnp.full(3, 8.0)}
  for _ in range(3):  # the bias of the hidden unit at which the far one has 0.8 of the mass, by trial
    far, near = (float(jnp.logaddexp(model.log_density(params, jnp.full((1, 3), place), 1.0), -jnp.inf)[0])
                 for place in (16.0, 0.0))
    params["model"] = {**params["model"],
                       "hidden_bias": params["model"]["hidden_bias"] + math.log(4.0) - (far - near)}
  del scale
  exact = float(model.enumerated_log_normalizer(params))
  found, = model.log_normalizer(params, carry, KEY)
  np.testing.assert_allclose(found.nats, exact, atol=0.2)
  np.testing.assert_allclose(found.missed, 0.8, atol=0.1)


@pytest.mark.slow
def test_where_annealing_reaches_everything_log_z_is_as_before():
  model = RBM(DataSpec((6,), 2), num_hidden=4, normalizer="ais", num_temperatures=100, num_chains=100)
  rng = np.random.default_rng(1)
  params, carry = model.init(KEY, {"x": rng.integers(0, 2, (50, 6)).astype(np.uint8)})
  params["model"] = jax.tree.map(lambda leaf: leaf + 0.5 * rng.normal(size=leaf.shape).astype(np.float32),
                                 params["model"])
  found, = model.log_normalizer(params, carry, KEY)
  exact = float(model.enumerated_log_normalizer(params))
  assert abs(float(found.nats) - exact) < 4 * float(found.stderr) < 0.1
  assert float(found.missed) < 0.01


@pytest.mark.slow
def test_the_sum_of_parts_is_unbiased_and_its_interval_covers():
  """Over many keys: the mean of exp(log Z) is Z, and the interval has it as often as it says."""
  model, params, carry = two_modes(0.6, dims=8)
  exact = float(model.enumerated_log_normalizer(params))
  path, betas = model.path(params), annealing.ladder(20)

  def anneal(path, key):
    found = annealing.forward(path, betas, key, 60)
    return missed_modes.AnnealedRun(found.x, found.log_weights[:, None], least_acceptance(found.acceptance))

  def settle(key, x):
    return gibbs.repeat(lambda key, x: path.transition(key, x, jnp.ones(())), key, x, 100)

  def trial(key):
    start_key, look_key, key = jax.random.split(key, 3)
    seen = missed_modes.look(path, look_key, model.starts(params, carry, start_key, 32), anneal=anneal, settle=settle)
    return missed_modes.log_normalizer(
        seen, key, lambda key, x, weights: anneal(model.path_about(params, carry, x, weights), key))

  found = jax.jit(lambda keys: jax.lax.map(trial, keys))(jax.random.split(KEY, 200))
  weights = np.exp(np.asarray(found.log_z.nats, np.float64) - exact)
  # A hundredth for chains too rare to be among these that cross between modes and come to weigh much.
  assert abs(weights.mean() - 1.0) < 4 * weights.std() / math.sqrt(len(weights)) + 0.01
  low, high = np.asarray(found.log_z.interval).T
  covered = np.mean((low <= exact) & (exact <= high))
  assert covered > 0.95 - 3 * math.sqrt(0.95 * 0.05 / len(weights))


def gaussians(middles, widths, masses):
  """log f of a mixture, normalized; all of each Gaussian's dimensions have one middle and one width."""
  middles, widths, masses = (jnp.asarray(values, jnp.float32) for values in (middles, widths, masses))

  def log_f(u):
    squares = jnp.sum(jnp.square((u[:, None] - middles[:, None]) / widths[:, None]), axis=-1)
    return jax.nn.logsumexp(jnp.log(masses) - 0.5 * squares - u.shape[1] * jnp.log(widths * math.sqrt(2 * math.pi)),
                            axis=1)

  return log_f


def require_found(found, missed):
  low, high = np.asarray(found.interval)
  assert low - 0.02 < 0.0 < high + 0.02 and abs(found.nats) < 0.25  # log Z is 0
  np.testing.assert_allclose(found.missed, missed, atol=0.08)


@pytest.mark.slow
def test_a_far_mode_of_a_density_of_real_numbers_is_found():
  model, params = given(gaussians([0.0, 5.0], [1.0, 0.7], [0.2, 0.8]), np.ones(3), num_temperatures=50, num_chains=100)
  require_found(model.log_normalizer(params, {}, KEY)[0], 0.8)


@pytest.mark.slow
def test_narrow_modes_on_both_sides_are_found_where_chains_are():
  """A hundredth and a twentieth as wide as the near one, which alone is found without the chains."""
  log_f = gaussians([0.0, 3.0, -3.0], [1.0, 0.01, 0.05], [0.3, 0.5, 0.2])
  model, params = given(log_f, np.ones(10), num_temperatures=200, num_chains=256)
  chains = 3.0 + 0.01 * np.random.default_rng(0).normal(size=(1, 40, 10)).astype(np.float32)
  require_found(model.log_normalizer(params, {"chains": jnp.asarray(chains)}, KEY)[0], 0.7)


@pytest.mark.slow
def test_one_mode_has_nothing_that_is_missed():
  """Tails are no modes, in as many dimensions as make them far apart."""
  model, params = given(gaussians([0.1], [0.5], [1.0]), np.ones(30), num_temperatures=100, num_chains=128)
  for seed in range(4):
    found, = model.log_normalizer(params, {}, jax.random.key(seed))
    low, high = np.asarray(found.interval)
    assert found.missed == 0.0 and low < 0.0 < high


@pytest.mark.slow
def test_quadrature_looks_at_the_peak_of_any_example():
  """A needle at one example of the last batch has nine tenths of the mass, and only this example shows it."""
  model, params = given(gaussians([0.0, 1.2345], [1.0, 1e-3], [0.1, 0.9]), np.ones(2))
  model = dataclasses.replace(model, normalizer="quadrature")
  x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
  assert abs(float(model.log_normalizer(params, {}, KEY)[0].nats) - math.log(0.1)) < 0.01
  x[50] = 1.2345
  found = evaluate_likelihood(model, params, {}, [{"x": x[i:i + 20]} for i in (0, 20, 40)], key=KEY)
  assert found.kind is Kind.EXACT and abs(found.log_z.nats) < 0.01


separate = jax.jit(missed_modes.separate)  # op by op it takes long


@pytest.mark.slow
def test_regions_on_either_side_of_what_is_known_are_found_one_after_the_other():
  rng = np.random.default_rng(0)
  known = jnp.asarray(rng.normal(size=(100, 4)), jnp.float32)
  others = jnp.asarray(rng.normal(size=(40, 4)) + np.repeat([9.0, -9.0], 20)[:, None], jnp.float32)
  one, of_one = separate(known, others)
  two, of_two = separate(known, others, taken=of_one)
  assert bool(one.is_there) and bool(two.is_there) and sorted([int(of_one[0]), int(of_two[0])]) == [0, 1]
  assert int(of_one.sum()) == int(of_two.sum()) == 20 and not np.any(of_one & of_two)
  assert not np.any(one.holds(known) | two.holds(known))


def test_a_region_holds_what_is_new_and_nothing_known():
  rng = np.random.default_rng(0)
  known, new = rng.normal(size=(80, 5)), rng.normal(size=(10, 5)) + 8.0
  others = jnp.asarray(np.concatenate([rng.normal(size=(40, 5)), new]), jnp.float32)
  region, weights = separate(jnp.asarray(known, jnp.float32), others)
  assert bool(region.is_there) and not np.any(region.holds(jnp.asarray(known, jnp.float32)))
  assert np.all(np.asarray(weights)[-10:] == 1) and np.sum(weights) == 10
  nothing, _ = separate(jnp.asarray(known, jnp.float32), others[:40])
  assert not np.any(nothing.holds(others))
  still, _ = separate(jnp.ones((20, 4)), jnp.ones((20, 4)))
  assert not bool(still.is_there)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_region_is_the_same_far_from_0(offset):
  """Squares of values far from 0 left no digits to distances: of 10 new states some were not told from known ones."""
  rng = np.random.default_rng(0)
  known, new = rng.normal(size=(80, 5)), rng.normal(size=(10, 5)) + 8.0
  others = jnp.asarray(np.concatenate([rng.normal(size=(40, 5)), new]) + offset, jnp.float32)
  region, weights = separate(jnp.asarray(known + offset, jnp.float32), others)
  assert bool(region.is_there) and np.flatnonzero(region.holds(others)).tolist() == [*range(40, 50)]
  assert np.flatnonzero(weights).tolist() == [*range(40, 50)]


def test_starts_where_the_target_is_nothing_make_no_region():
  """Annealing was begun from them, and the report gave its acceptance, 0, as that of all."""
  path = annealing.Path(lambda x, beta: jnp.where((jnp.abs(x[:, 0]) > 2) & (beta > 0), -jnp.inf, 0.0),
                        lambda key, x, beta: x,
                        lambda key, num: jax.random.uniform(key, (num, 1), minval=-2.0, maxval=2.0), jnp.log(4.0))
  away = jnp.linspace(8.0, 9.0, 40)[:, None]
  run = missed_modes.AnnealedRun(path.sample_base(jax.random.key(0), 40), jnp.zeros((40, 1)), jnp.ones(()))
  seen = jax.jit(lambda key: missed_modes.look(path, key, [away], anneal=lambda path, key: run,
                                               settle=lambda key, x: x))(jax.random.key(1))
  assert not np.any(seen.regions.is_there)
