"""Energies of real numbers: gradients by contrast, Gaussians recovered, densities that integrate to one, chains."""

import dataclasses
import functools
import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.small_models import small_batch, small_model

from configs.energy.ebm import VARIANTS, get_config
from gdm.dataspec import DataSpec
from gdm.energy.continuous.ebm import EBM
from gdm.energy.continuous.network_energy import LOSSES, nearest_neighbour_entropy
from gdm.energy.continuous.networks import ConvolutionalEnergy, MLPEnergy, QuadraticEnergy, largest_singular_value
from gdm.errors import ConfigError, NotFiniteError, SpecError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.likelihood import Kind
from gdm.mesh import make_mesh
from gdm.runs.registry import build_model
from gdm.runs.settings import check_settings
from gdm.training import checkpoint
from gdm.training.loop import fit
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

KEY = jax.random.key(0)
ZERO = jnp.zeros((), jnp.int32)
PLANE = DataSpec((2,), None)
GAUSSIAN = EBM(PLANE, network=QuadraticEnergy(), reference=2.0, chains_per_shard=25, num_temperatures=40)
X = (np.random.default_rng(0).normal(size=(2000, 2)) @ [[1.0, 0.8], [0.0, 0.6]] * [1.0, 3.0] + [5.0, 0.0]).astype(
    np.float32)


@functools.cache
def moved():
  """A model with parameters that are far from a fresh one's."""
  model = EBM(PLANE, network=MLPEnergy((8,)))
  params, carry = model.init(KEY, {"x": X})
  rng = np.random.default_rng(1)
  leaves, tree = jax.tree.flatten(params["model"])
  far = [leaf + 0.5 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
  return model, {**params, "model": jax.tree.unflatten(tree, far)}, carry


def set_gaussian(params, matrix, vector):
  return {**params, "model": {"network": {"matrix": jnp.asarray(matrix), "vector": jnp.asarray(vector)}}}


@pytest.mark.parametrize("objective", ["pcd", pytest.param("cd", marks=pytest.mark.slow)])
def test_gradients_are_the_data_s_minus_the_chains(objective):
  """d E / d A = u u' / 2 and d E / d b = u for a quadratic energy."""
  model = dataclasses.replace(GAUSSIAN, objective=objective, num_steps=3, restart=0.5)
  params, carry = model.init(KEY, {"x": X})
  batch = {"x": X[:200]}  # as many as there are chains, so that all go on
  (_, out), gradient = jax.value_and_grad(
      lambda moved: (lambda out: (out.loss, out))(
          model.energy_loss({**params, "model": moved}, carry, batch, KEY, ZERO)),
      has_aux=True)(params["model"])
  u = (X[:200] - params["base"]["centre"]) / params["base"]["scale"]
  if objective == "pcd":
    chains = np.asarray(out.carry["chains"]).reshape(-1, 2)
    assert out.carry["chains"].shape == (8, 25, 2) and not np.any(chains == np.asarray(carry["chains"]).reshape(-1, 2))
    expected = 0.5 * (np.cov(u.T, bias=True) + np.outer(u.mean(0), u.mean(0)) - chains.T @ chains / len(chains))
    np.testing.assert_allclose(gradient["network"]["matrix"], expected, atol=1e-4)
    np.testing.assert_allclose(gradient["network"]["vector"], u.mean(0) - chains.mean(0), atol=1e-4)
  assert float(out.metrics["chain_excess"].value) < 0.5
  assert set(out.metrics) == {"energy_gap", "data_energy", "chain_energy", "chain_norm", "chain_min", "chain_max",
                              "chain_excess"}


@pytest.mark.fast_cases("denoising-0.3-0.15")
@pytest.mark.parametrize("objective, wider, tolerance", [
    ("nce", 0.0, 0.25), ("denoising", 0.3, 0.15), pytest.param("sliced", 0.0, 0.1, marks=pytest.mark.slow),
    pytest.param("pcd", 0.0, 0.25, marks=pytest.mark.slow),
    pytest.param("cd", 0.0, 0.25, marks=pytest.mark.slow)])
def test_a_gaussian_is_recovered(objective, wider, tolerance):
  """By its precision and mean, which the energy adds to those of the reference; denoising finds the noised one's."""
  model = dataclasses.replace(GAUSSIAN, objective=objective, denoising_scale=wider or 0.1, chains_per_shard=250,
                              num_steps=10, step_size=0.1, adjusted=True)
  optimizers = optimizers_for(model, optax.adam(optax.linear_schedule(0.05, 0.0, 400)))
  state = init_state(model, optimizers, KEY, {"x": X})
  step, x = make_train_step(model, optimizers), jnp.asarray(X)[None]
  state, _ = jax.jit(lambda state: jax.lax.scan(lambda state, _: step(state, {"x": x}, KEY), state,
                                                length=400))(state)
  u = (X - state.params["base"]["centre"]) / state.params["base"]["scale"]
  precision = np.linalg.inv(np.cov(u.T) + wider**2 * np.eye(2))
  network = state.params["model"]["network"]
  found = 0.5 * (network["matrix"] + network["matrix"].T) + np.eye(2) / model.reference**2
  np.testing.assert_allclose(found, precision, atol=tolerance)
  np.testing.assert_allclose(np.linalg.solve(found, -network["vector"]), 0.0, atol=0.05)
  if objective == "nce":
    exact, learned = model.log_normalizer(state.params, state.carry, KEY)
    assert exact.kind is Kind.EXACT and learned.kind is Kind.ESTIMATE
    np.testing.assert_allclose(exact.nats, 0.5 * (2 * math.log(2 * math.pi) - np.linalg.slogdet(found)[1]), atol=1e-3)
    np.testing.assert_allclose(learned.nats, exact.nats, atol=0.05)


@pytest.mark.slow
def test_densities_of_the_plane_integrate_to_one_by_two_ways():
  model, params, carry = moved()
  exact, = model.log_normalizer(params, carry, KEY)
  assert exact.kind is Kind.EXACT and float(exact.stderr) < 1e-3
  lines = [np.linspace(c - 12 * s, c + 12 * s, 401) for c, s in zip(*map(np.asarray, (
      params["base"]["centre"], params["base"]["scale"])), strict=True)]
  grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
  nats = np.asarray(model.unnormalized_log_prob(params, carry, {"x": grid}), np.float64) - float(exact.nats)
  np.testing.assert_allclose(np.exp(nats).sum() * np.prod([line[1] - line[0] for line in lines]), 1.0, atol=1e-3)
  annealed, = dataclasses.replace(model, normalizer="ais", num_temperatures=50).log_normalizer(params, carry, KEY)
  assert annealed.kind is Kind.LOWER_BOUND
  assert abs(float(annealed.nats - exact.nats)) < 4 * float(annealed.stderr) < 0.2


@pytest.mark.slow
def test_raise_is_below_the_density_and_near_it():
  model, params, carry = moved()
  exact = model.log_likelihood(params, carry, {"x": X}, KEY)
  raised = dataclasses.replace(model, normalizer="ais", num_temperatures=100).log_likelihood(
      params, carry, {"x": X}, KEY, num_samples=2)
  assert exact.kind is Kind.EXACT and raised.kind is Kind.SAMPLER_BOUND
  gap = np.asarray(exact.nats - raised.nats)
  assert -4 * gap.std() / len(gap) ** 0.5 < gap.mean() < 0.1


@pytest.mark.slow
def test_a_fresh_model_is_its_reference_on_a_line_too():
  fresh = EBM(DataSpec((1,), None), reference=3.0, network=MLPEnergy((4,)))
  params, carry = fresh.init(KEY, {"x": X[:, :1]})
  log_z, = fresh.log_normalizer(params, carry, KEY)
  np.testing.assert_allclose(log_z.nats, math.log(3.0 * math.sqrt(2 * math.pi)), rtol=1e-5)


@pytest.mark.slow
def test_samples_and_completions_are_the_gaussian_s():
  matrix = np.array([[2.0, -1.2], [-1.2, 1.0]], np.float32)
  params = set_gaussian(GAUSSIAN.init(KEY, {"x": X})[0], matrix, [0.5, 0.0])
  base, precision = params["base"], matrix + np.eye(2) / 4.0
  covariance = np.linalg.inv(precision)
  mean = -covariance @ [0.5, 0.0]
  found = GAUSSIAN.sample(params, {}, KEY, 8000, num_steps=20)
  u = (np.asarray(found.x) - base["centre"]) / base["scale"]
  np.testing.assert_allclose(u.mean(0), mean, atol=0.06)
  np.testing.assert_allclose(np.cov(u.T), covariance, atol=0.08)
  assert found.info["nfe"] == 40 * 5 + 1 + 20 * 4 and found.info["divergent"] == 0
  assert 0.8 < found.info["acceptance"] <= 1
  x = np.tile(np.asarray(base["centre"] + base["scale"] * np.array([1.5, 9.0])), (8000, 1)).astype(np.float32)
  done = np.asarray(GAUSSIAN.complete(params, {}, KEY, jnp.asarray(x), jnp.array([True, False])).x)
  assert np.all(done[:, 0] == x[:, 0])
  rest = (done[:, 1] - base["centre"][1]) / base["scale"][1]
  np.testing.assert_allclose(rest.mean(), 1.2 * 1.5 / precision[1, 1], atol=0.06)
  np.testing.assert_allclose(rest.var(), 1 / precision[1, 1], atol=0.06)
  # Given a noised x, a Gaussian of the summed precisions.
  cleaned = GAUSSIAN.denoise(params, {}, KEY, jnp.asarray(x), 0.7)
  u, noise = (np.asarray(cleaned.x) - base["centre"]) / base["scale"], np.diag((base["scale"] / 0.7) ** 2)
  posterior = np.linalg.inv(precision + noise)
  np.testing.assert_allclose(np.cov(u.T) / posterior, 1.0, atol=0.1)
  np.testing.assert_allclose(u.mean(0), posterior @ (noise @ [1.5, 9.0] - [0.5, 0.0]), atol=0.06)
  assert cleaned.info["divergent"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["langevin", "mala"])
def test_the_other_samplers_go_on_from_the_buffer(sampler):
  model = dataclasses.replace(GAUSSIAN, step_size=0.05)
  params, carry = model.init(KEY, {"x": X})
  params = set_gaussian(params, np.diag([1.0, 0.0]).astype(np.float32), [0.0, 1.0])
  found = model.sample(params, carry, KEY, 4000, num_steps=600, sampler=sampler, start="chains")
  u = (np.asarray(found.x) - params["base"]["centre"]) / params["base"]["scale"]
  np.testing.assert_allclose(u.mean(0), [0.0, -4.0], atol=0.15)
  np.testing.assert_allclose(u.var(0), [0.8, 4.0], rtol=0.1)
  assert 0.9 < found.info["acceptance"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("objective", LOSSES)
@pytest.mark.parametrize("spectral", [False, True])
def test_images_of_integers_are_dequantized_and_every_objective_moves_every_parameter(objective, spectral):
  network = ConvolutionalEnergy((4, 6))
  model = EBM(DataSpec((5, 4, 1), 4), network=network, objective=objective, spectral=spectral, energy_penalty=0.1,
              kl_weight=0.2, num_steps=2, num_temperatures=20, num_chains=8)
  x = np.random.default_rng(0).integers(0, 4, (16, 5, 4, 1)).astype(np.uint8)
  optimizers = optimizers_for(model, optax.adam(1e-2))
  start = init_state(model, optimizers, KEY, {"x": x})
  step = jax.jit(make_train_step(model, optimizers))
  state = start
  for _ in range(3):
    state, metrics = step(state, {"x": x[None]}, KEY)
  assert all(np.isfinite(mean.value) for mean in metrics.values())
  still = [jax.tree_util.keystr(path) for path, same in jax.tree_util.tree_leaves_with_path(jax.tree.map(
      lambda a, b: bool(np.all(a == b)), start.params["model"], state.params["model"])) if same]
  # A constant added to the energy is nothing to what sees only its slope or its gaps.
  assert still in ([], ["['network']['last']['bias']"])
  drawn = model.sample(state.params, state.carry, KEY, 3)
  assert drawn.x.shape == (3, 5, 4, 1) and drawn.x.dtype == jnp.int32 and 0 <= drawn.x.min() <= drawn.x.max() < 4
  known = np.indices((5, 4, 1)).sum(0) % 2 == 0
  done = model.complete(state.params, state.carry, KEY, jnp.asarray(x[:2]), jnp.asarray(known))
  assert np.all(np.asarray(done.x)[:, known] == x[:2][:, known])
  # Next to no noise leaves what was there, an integer where it was one.
  clean = model.denoise(state.params, state.carry, KEY, jnp.asarray(x[:2]), 1e-3)
  np.testing.assert_allclose(clean.x, x[:2], atol=0.02)
  report = evaluate_likelihood(model, *jax.device_get((state.params, state.carry)), [{"x": x}], key=KEY)
  # The sampler's bound, and dequantization; and dequantization less a log Z from below, which is no bound of anything.
  assert report.kind is Kind.SAMPLER_BOUND and report.alternatives[0].kind is Kind.ESTIMATE and report.nats_mean < 0


@pytest.mark.slow
def test_a_uniform_pixel_scores_no_more_than_its_probability():
  """The fresh model's bound, averaged over a grid of noise, is below the log of the mass of the unit interval."""
  model = EBM(DataSpec((1,), 4), network=QuadraticEnergy())
  params, carry = model.init(KEY, {"x": np.arange(4)[:, None].repeat(500, 0).astype(np.uint8)})
  log_z, = model.log_normalizer(params, carry, KEY)
  assert log_z.kind is Kind.UPPER_BOUND  # so that log p is bounded from below
  base, x = params["base"], np.repeat(np.arange(4), 4000)[:, None].astype(np.uint8)
  nats = np.asarray(model.unnormalized_log_prob(params, carry, {"x": x}) - log_z.nats).reshape(4, -1).mean(axis=1)
  edges = (np.arange(5) - float(base["centre"][0])) / float(base["scale"][0])
  mass = np.log(np.diff(jax.scipy.stats.norm.cdf(edges)))
  assert np.all(nats < mass) and np.all(nats > mass - 0.1)


def test_the_entropy_of_points_grows_with_the_log_of_their_scale():
  points = jax.random.normal(KEY, (300, 2, 3))
  at = nearest_neighbour_entropy
  np.testing.assert_allclose(at(3.0 * points) - at(points), 6 * math.log(3.0), rtol=1e-4)
  # Against the truth, with the estimate's constant for the number of points (Kozachenko and Leonenko).
  constant = math.log(299) + float(np.euler_gamma) + 3 * math.log(math.pi) - math.lgamma(4)
  assert abs(float(at(points)) + constant - 3 * math.log(2 * math.pi * math.e)) < 0.5


def test_spectral_norms_are_found_from_below():
  matrix = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
  for tall in (matrix, matrix.T):
    found, truth = float(largest_singular_value(jnp.asarray(tall))), np.linalg.norm(tall, 2)
    assert 0.97 * truth < found <= truth * (1 + 1e-5)
  u, _, v = np.linalg.svd(matrix, full_matrices=False)
  direction = jax.grad(lambda m: largest_singular_value(m, 200))(jnp.asarray(matrix))
  np.testing.assert_allclose(direction, np.outer(u[:, 0], v[0]), atol=1e-3)


@pytest.mark.slow
def test_a_restored_run_goes_on_bit_for_bit_with_its_chains(tmp_path):
  model = small_model("ebm")
  optimizers, x = optimizers_for(model, optax.adam(1e-2)), small_batch(model, (6, 1))["x"]
  mesh = make_mesh(devices=jax.devices()[:1])
  state = init_state(model, optimizers, KEY, {"x": x[0, 0]}, ema=True, mesh=mesh)
  step, writer, unbroken = jax.jit(make_train_step(model, optimizers)), checkpoint.Checkpointer(tmp_path / "c"), state
  for i in range(6):
    unbroken, _ = step(unbroken, {"x": x[i]}, KEY)
    if i == 2:
      writer.save(3, unbroken, {})
  writer.close()
  resumed = checkpoint.restore(tmp_path / "c", 3, state).state
  assert np.any(np.asarray(resumed.carry["chains"]) != np.asarray(state.carry["chains"]))
  for i in range(3, 6):
    resumed, _ = step(resumed, {"x": x[i]}, KEY)
  chex.assert_trees_all_equal(resumed, unbroken)


@pytest.mark.slow
def test_chains_that_leave_the_data_s_range_are_an_error_with_their_step_and_are_named():
  model = dataclasses.replace(small_model("ebm"), step_size=3.0, kl_weight=0.0)
  optimizers, x = optimizers_for(model, optax.adam(1e-2)), small_batch(model, (1, 1))["x"]
  mesh = make_mesh(devices=jax.devices()[:1])
  state = init_state(model, optimizers, KEY, {"x": x[0, 0]}, mesh=mesh)

  class Batches:
    def next_batches(self, k=None):
      return {"x": x[:1] if k else x[0]}

  with pytest.raises(NotFiniteError, match=r"chain_excess is (inf|nan) at step \d+\. chain \d+ of 24 lies in \["):
    fit(make_train_step(model, optimizers), state, Batches(), key=KEY, num_steps=40, mesh=mesh,
        diagnose=lambda state: model.diagnose(state.params, state.carry))


@pytest.mark.slow
def test_a_gap_beyond_its_limit_is_infinite_and_keeps_its_sign():
  params, carry = GAUSSIAN.init(KEY, {"x": X})
  steep = set_gaussian(params, np.diag([50.0, 50.0]).astype(np.float32), [0.0, 0.0])
  for limit, seen in ((100.0, np.isfinite), (1.0, np.isposinf)):
    model = dataclasses.replace(GAUSSIAN, gap_limit=limit, num_steps=1, objective="cd", noise=0.0)
    out = model.energy_loss(steep, carry, {"x": X[:100]}, KEY, ZERO)
    assert seen(float(out.metrics["energy_gap"].value)) and np.isfinite(out.loss)


def test_a_chain_beyond_the_data_is_named():
  model, params, carry = moved()
  assert model.diagnose(params, carry) == model.diagnose(params, {}) == ""
  for value in (np.nan, 50.0):
    lost = {"chains": carry["chains"].at[1, 3, 0].set(value)}
    with pytest.raises(NotFiniteError, match=r"chain 67 of 512 lies in \[.*training has diverged"):
      model.sample(params, lost, KEY, 4, start="chains")


@pytest.mark.parametrize("fields, message", [
    ({"objective": "nse"}, "model.objective is 'nse'; did you mean 'nce'"),
    ({"normalizer": "grid"}, "model.normalizer is 'grid'"),
    ({"num_steps": 0}, "model.num_steps is 0"),
    ({"reference": 0.0}, "model.reference is 0.0; it must be finite and above 0"),
    ({"noise": -1.0}, "model.noise is -1.0"),
    ({"adjusted": True, "kl_weight": 0.1}, "adjusted and model.kl_weight is 0.1"),
    ({"adjusted": True, "noise": 0.0}, "adjusted and model.noise is 0"),
    ({"restart": 1.5}, "model.restart is 1.5; it must be a probability"),
])
def test_fields_that_cannot_be_used_are_named(fields, message):
  with pytest.raises(ConfigError, match=message):
    model = EBM(PLANE, **fields)
    jax.eval_shape(model.init, KEY, {"x": X})


def test_what_a_model_cannot_do_is_said():
  with pytest.raises(SpecError, match="must be images"):
    EBM(PLANE, network=ConvolutionalEnergy())
  with pytest.raises(ConfigError, match=r"network.hidden is \(\)"):
    MLPEnergy(())
  with pytest.raises(ConfigError, match=r"model\.network is a Dense, which makes \(3, .* must make \(3,\)"):
    EBM(PLANE, network=nn.Dense(2))
  with pytest.raises(ConfigError, match=r"model\.network\.name is 'mpl'; did you mean 'mlp'"):
    build_model({"name": "ebm", "network": {"name": "mpl"}}, PLANE)
  with pytest.raises(ConfigError, match="the data has 3 dimensions; a grid takes at most 2"):
    EBM(DataSpec((3,), None), normalizer="quadrature")
  model, params, carry = moved()
  with pytest.raises(ConfigError, match=r"chains_per_shard is 64, .* 512 chains, fewer than the batch of 600; .* 75"):
    model.energy_loss(params, carry, {"x": X[:600]}, KEY, ZERO)
  with pytest.raises(SpecError, match=r"x has shape \(1, 3\)"):
    model.unnormalized_log_prob(params, carry, {"x": np.zeros((1, 3), np.float32)})
  with pytest.raises(SpecError, match="condition must be None"):
    model.sample(params, carry, KEY, 1, condition=jnp.zeros(1))
  with pytest.raises(ConfigError, match="sampler is 'nuts'"):
    model.sample(params, carry, KEY, 1, sampler="nuts")
  with pytest.raises(ConfigError, match="num_steps is -1"):
    model.sample(params, carry, KEY, 1, num_steps=-1)
  with pytest.raises(ConfigError, match="keeps none; it must be 'base'"):
    model.sample(params, {}, KEY, 1, start="chains")


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_builds_its_model(variant):
  config = get_config(variant)
  check_settings(config)
  spec = {"digits": DataSpec((8, 8, 1), 17), "npz": DataSpec((11,), None)}.get(variant, PLANE)
  model = build_model(config.model.to_dict(), spec)
  params, carry = jax.eval_shape(model.init, KEY, {"x": jax.ShapeDtypeStruct((2, *spec.event), jnp.float32)})
  assert set(params) == {"model", "base"}
  assert {name: leaf.shape for name, leaf in carry.items()} == (
      {"chains": (8, 64, *spec.event)} if model.objective == "pcd" else {})


def test_unknown_variants_are_named():
  with pytest.raises(ConfigError, match="has no variant 'rins'; did you mean 'rings'"):
    get_config("rins")
