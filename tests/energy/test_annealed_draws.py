"""Annealing by Hamiltonian Monte Carlo where steps of one size fail; what it tells."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from gdm.dataspec import DataSpec
from gdm.energy.continuous.chains import Moves, Target, acceptance_info, gaussian_base
from gdm.energy.continuous.ebm import EBM
from gdm.energy.continuous.energy import ContinuousEnergy
from gdm.energy.continuous.networks import QuadraticEnergy
from gdm.errors import ConfigError
from gdm.inference import diagnostics
from gdm.runs.sampling import mixing

KEY = jax.random.key(0)
DIMS = 10
CORRELATED = 0.999 * np.ones((DIMS, DIMS)) + 0.001 * np.eye(DIMS)
MODEL = EBM(DataSpec((DIMS,), None), network=QuadraticEnergy(), reference=2.0, objective="cd", num_temperatures=100)
LOG_Z = 0.5 * (DIMS * math.log(2 * math.pi) + np.linalg.slogdet(CORRELATED)[1])


@functools.cache
def correlated():
  """Parameters of the Gaussian of standardized values with the covariance CORRELATED and mean zero."""
  x = np.random.default_rng(0).multivariate_normal(np.zeros(DIMS), CORRELATED, size=2000).astype(np.float32)
  params, _ = MODEL.init(KEY, {"x": x})
  matrix = np.linalg.inv(CORRELATED) - np.eye(DIMS) / MODEL.reference**2
  return {**params, "model": {"network": {"matrix": jnp.asarray(matrix, jnp.float32), "vector": jnp.zeros(DIMS)}}}


def standardized(params, x):
  return (np.asarray(x, np.float64) - params["base"]["centre"]) / params["base"]["scale"]


def widths(u, covariance):
  """Deviations along the principal axes of a covariance, as shares of what they must be."""
  values, axes = np.linalg.eigh(covariance)
  return np.sqrt(np.diag(axes.T @ np.cov(np.asarray(u, np.float64).T) @ axes) / values)


def require_told(info):
  """A sampler that works says how it went, and that nothing failed."""
  assert 0.5 < info["least_acceptance"] <= 1.0 and 0.0 < info["least_acceptance_beta"] <= 1.0
  assert info["stuck"] == 0.0 == info["lost"] and info["pilot_nfe"] > 0 and not diagnostics.failure(info)


def test_samples_of_a_correlated_gaussian_have_its_widths():
  params = correlated()
  drawn = MODEL.sample(params, {}, KEY, 2000)
  np.testing.assert_allclose(widths(standardized(params, drawn.x), CORRELATED), 1.0, atol=0.1)
  require_told(drawn.info)


@pytest.mark.slow
def test_log_z_of_a_correlated_gaussian_lies_in_its_interval():
  for normalizer in ("ais", "smc"):
    found, = dataclasses.replace(MODEL, normalizer=normalizer).log_normalizer(correlated(), {}, KEY)
    assert found.interval is not None and found.acceptance is not None and found.effective_sample_size is not None
    low, high = np.asarray(found.interval)
    assert low <= LOG_Z <= high < low + 1.5 and found.acceptance > 0.5 and found.effective_sample_size > 10


@pytest.mark.slow
def test_completions_are_draws_of_the_conditional():
  params, base = correlated(), correlated()["base"]
  u = np.random.default_rng(1).multivariate_normal(np.zeros(DIMS), CORRELATED, size=3)
  x = np.repeat(u * base["scale"] + base["centre"], 600, axis=0).astype(np.float32)
  known = np.arange(DIMS) < 4
  done = MODEL.complete(params, {}, KEY, jnp.asarray(x), jnp.asarray(known))
  assert np.all(np.asarray(done.x)[:, known] == x[:, known])
  gain = CORRELATED[~known][:, known] @ np.linalg.inv(CORRELATED[known][:, known])
  covariance = CORRELATED[~known][:, ~known] - gain @ CORRELATED[known][:, ~known]
  rest = standardized(params, done.x)[:, ~known].reshape(3, 600, -1)
  for given, drawn in zip(u[:, known], rest, strict=True):
    error = np.linalg.solve(np.linalg.cholesky(covariance), drawn.mean(axis=0) - gain @ given)
    assert np.sum(error**2) < 6 * 5.0 / 600  # of a chi-squared number of 6 degrees
    np.testing.assert_allclose(widths(drawn, covariance), 1.0, atol=0.15)
  require_told(done.info)


@pytest.mark.slow
def test_denoised_examples_are_draws_of_the_posterior():
  params, base = correlated(), correlated()["base"]
  deviation = 0.05 * float(np.mean(base["scale"]))
  noise = np.diag(np.square(np.asarray(base["scale"], np.float64) / deviation))
  covariance = np.linalg.inv(np.linalg.inv(CORRELATED) + noise)
  u = np.random.default_rng(2).multivariate_normal(np.zeros(DIMS), CORRELATED + np.linalg.inv(noise), size=3)
  x = np.repeat(u * base["scale"] + base["centre"], 600, axis=0).astype(np.float32)
  clean = MODEL.denoise(params, {}, KEY, jnp.asarray(x), deviation)
  for seen, drawn in zip(u, standardized(params, clean.x).reshape(3, 600, -1), strict=True):
    error = np.linalg.solve(np.linalg.cholesky(covariance), drawn.mean(axis=0) - covariance @ noise @ seen)
    assert np.sum(error**2) < DIMS * 4.0 / 600
    np.testing.assert_allclose(widths(drawn, covariance), 1.0, atol=0.15)
  require_told(clean.info)


@dataclasses.dataclass(frozen=True)
class Given(ContinuousEnergy):
  """A density of standardized values that is written down."""

  log_f: Callable[[Array], Array] = dataclasses.field(kw_only=True)

  known_objectives = ("cd",)

  def init(self, key, batch):
    return {}, {}

  def energy(self, params, carry, condition=None):
    return lambda u: -self.log_f(u)

  def base_of(self, params, carry):
    return gaussian_base(params["base"])

  def box(self, params):
    raise NotImplementedError

  def checked_condition(self, condition, num, start):
    return None


def given(log_f, spread, **fields):
  """Such a model, and parameters of a Gaussian base of so wide a spread of every dimension."""
  spread = jnp.asarray(spread, jnp.float32)
  model = Given(DataSpec(spread.shape, None), objective="cd", normalizer="ais", log_f=log_f, **fields)
  zeros = jnp.zeros(spread.shape)
  return model, {"model": {}, "base": {"centre": zeros, "scale": zeros + 1.0, "mean": zeros, "deviation": spread,
                                       "low": jnp.float32(-1), "high": jnp.float32(1)}}


@pytest.mark.slow
def test_scales_from_a_thousandth_to_a_thousand():
  deviations = np.geomspace(1e-3, 1e3, 7)
  model, params = given(lambda u: -0.5 * jnp.sum(jnp.square(u / deviations), axis=1), np.ones(7))
  drawn = model.sample(params, {}, KEY, 2000)
  np.testing.assert_allclose(np.std(drawn.x, axis=0) / deviations, 1.0, atol=0.12)
  require_told(drawn.info)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["base", "smc"])
def test_a_thin_banana(start):
  def log_f(u):
    return -0.5 * jnp.square(u[:, 0] / 1.5) - 0.5 * jnp.square((u[:, 1] - jnp.square(u[:, 0]) + 2.25) / 0.2)

  model, params = given(log_f, [2.0, 3.0])
  drawn = model.sample(params, {}, KEY, 3000, num_steps=50, start=start)
  x = np.asarray(drawn.x, np.float64)
  assert abs(np.std(x[:, 0]) / 1.5 - 1.0) < 0.1 and abs(np.mean(x[:, 0])) < 0.15
  np.testing.assert_allclose(np.std(x[:, 1] - x[:, 0] ** 2 + 2.25), 0.2, rtol=0.1)
  assert not diagnostics.failure(drawn.info)


@pytest.mark.slow
def test_a_funnel_s_neck_is_entered():
  """Log-widths of deviation 1, so that widths span a factor of 50."""

  def log_f(u):
    return (-0.5 * jnp.square(u[:, 0]) - 0.5 * jnp.sum(jnp.square(u[:, 1:]) * jnp.exp(-2.0 * u[:, :1]), axis=1)
            - (u.shape[1] - 1) * u[:, 0])

  model, params = given(log_f, [1.0] + [2.0] * 4, num_temperatures=500)
  drawn = model.sample(params, {}, KEY, 3000, num_steps=100, start="smc")
  np.testing.assert_allclose([np.mean(drawn.x[:, 0]), np.std(drawn.x[:, 0])], [0.0, 1.0], atol=0.15)


@pytest.mark.slow
def test_the_smaller_and_narrower_of_two_modes_gets_its_share_by_smc():
  def log_f(u):
    places, size = jnp.array([-3.0, 3.0]), jnp.array([0.15, 0.6])
    squares = jnp.sum(jnp.square((u[:, None] - places[:, None] * jnp.array([1.0, 0.0])) / size[:, None]), axis=-1)
    return jax.nn.logsumexp(jnp.log(jnp.array([0.3, 0.7])) - 2.0 * jnp.log(size) - 0.5 * squares, axis=1)

  model, params = given(log_f, [3.0, 2.0])
  drawn = model.sample(params, {}, KEY, 4000, start="smc")
  left = np.asarray(drawn.x)[:, 0] < 0
  assert abs(left.mean() - 0.3) < 0.06 and drawn.info["resamplings"] >= 1 and drawn.info["ancestors"] > 400
  np.testing.assert_allclose([np.std(drawn.x[left, 1]), np.std(drawn.x[~left, 1])], [0.15, 0.6], rtol=0.1)
  found, = dataclasses.replace(model, normalizer="smc", num_chains=1000).log_normalizer(params, {}, KEY)
  assert found.interval is not None
  low, high = np.asarray(found.interval)
  assert low <= math.log(2 * math.pi) <= high < math.log(2 * math.pi) + 0.5


@pytest.mark.slow
def test_the_pilot_is_a_function_of_the_parameters_alone():
  """So that draws, log Z and RAISE are of one sampler: another key leaves its kernels and temperatures as they are."""
  model, params = given(lambda u: -0.5 * jnp.sum(jnp.square(u / 0.1), axis=1), np.ones(1), num_temperatures=5)
  one, other = (model.sample(params, {}, jax.random.key(seed), 3).info for seed in (0, 1))
  assert one["least_path"] == other["least_path"] and one["pilot_nfe"] == other["pilot_nfe"]
  assert model.sample(params, {}, KEY, 3, num_temperatures=7).info["nfe"] == 7 * (model.num_leapfrog + 1)
  with pytest.raises(ConfigError, match="num_temperatures is -1"):
    model.sample(params, {}, KEY, 3, num_temperatures=-1)


def test_what_failed_is_put_into_words():
  well = {"least_acceptance": 0.7, "least_acceptance_beta": 0.2, "stuck": 0.0, "least_path": 1.6, "lost": 0.0}
  assert diagnostics.failure(well) == "" == diagnostics.failure({})
  for name, value, words in (("least_acceptance", 0.001, "only 0.001 of its moves at inverse temperature 0.2"),
                             ("stuck", 0.3, "0.3 of the chains stood still"), ("lost", 0.01, "left the finite numbers"),
                             ("least_path", 0.01, "as short as 0.01 deviations"),
                             ("acceptance", 0.0, "only 0 of the further steps")):
    info = {**well, name: value}
    assert words in diagnostics.failure(info)
    assert "the draws are not from the model: " in mixing(info) and "sampling.num_temperatures" in mixing(info)
  assert "not from the model" not in mixing(well) and "least acceptance of annealing 0.7" in mixing(well)


@pytest.mark.slow
def test_the_least_acceptance_is_of_enough_moves():
  acceptance = jnp.full((40, 128), 0.8).at[7].set(0.0).at[30:, 3].set(0.0)
  info = acceptance_info(acceptance, jnp.linspace(0.0, 1.0, 41))
  assert info["least_acceptance"] < 1e-6 and abs(info["least_acceptance_beta"] - 8 / 40) < 1e-6
  np.testing.assert_allclose(info["stuck"], 1 / 128)
  lonely = acceptance_info(jnp.full((40, 1), 0.8).at[7].set(0.0), jnp.linspace(0.0, 1.0, 41))
  assert lonely["least_acceptance"] > 0.7 and lonely["stuck"] == 0.0  # one refusal of one chain is no failure


def test_the_base_is_a_density_where_the_energy_is_infinite():
  """0 times infinity made log f_0 NaN beyond the edge of a bounded density, and with it log Z and pilots."""
  base = gaussian_base({"mean": jnp.zeros(2), "deviation": jnp.ones(2)})
  moves = Moves(10, 2, 0.4, 4, 0.01, 1.0)
  target = Target(lambda condition: lambda u: jnp.where(u[:, 0] < 0, jnp.inf, 1.0), None, base, jnp.ones(2), None,
                  moves)
  u, log_density = jnp.array([[-1.0, 0.0], [1.0, 0.0]]), target.bridge()
  np.testing.assert_allclose(log_density(u, jnp.zeros(())), base.log_prob(u))
  np.testing.assert_allclose(log_density(u, jnp.ones(())), [-np.inf, -1.0])
