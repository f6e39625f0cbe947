"""Energy models small enough to enumerate: partition functions, gradients, samplers and both ends of the bracket."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.enumeration import all_states, assert_completions_match, assert_frequencies_match

from gdm.dataspec import DataSpec
from gdm.energy.continuous.gaussian_rbm import GaussianRBM
from gdm.energy.discrete.ising import Ising, couplings
from gdm.energy.discrete.rbm import RBM
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.inference import annealed_importance as annealing
from gdm.inference.diagnostics import effective_sample_size, split_rhat
from gdm.likelihood import Kind
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

KEY = jax.random.key(0)
BITS = DataSpec((2, 3), 2)
STATES = all_states(2, 6).reshape(-1, 2, 3)
FLAT = jnp.asarray(STATES.reshape(-1, 6), jnp.float32)
MODELS = {
    "rbm": RBM(BITS, num_hidden=4, num_temperatures=100, num_chains=100),
    "wide": RBM(BITS, num_hidden=7, num_temperatures=100),
    "ising": Ising(BITS, num_temperatures=50),
    "gwg": Ising(BITS, sampler="gradients", num_temperatures=50),
}
DISCRETE = [pytest.param(name, marks=() if name == "rbm" else pytest.mark.slow) for name in MODELS]


@functools.cache
def ready(name):
  """A model with parameters that are far from its base, and its carry."""
  model = MODELS[name]
  rng = np.random.default_rng(1)
  params, carry = model.init(KEY, {"x": rng.integers(0, 2, (50, 2, 3)).astype(np.uint8)})
  leaves, tree = jax.tree.flatten(params["model"])
  moved = [leaf + 0.6 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
  return model, {**params, "model": jax.tree.unflatten(tree, moved)}, carry


def scores(name):
  """log p of all states, and log Z, from the scores alone."""
  model, params, carry = ready(name)
  nats = np.asarray(model.unnormalized_log_prob(params, carry, {"x": STATES}), np.float64)
  log_z = np.logaddexp.reduce(nats)
  return nats - log_z, log_z


@pytest.mark.parametrize("name", DISCRETE)
def test_log_z_is_that_of_all_states(name):
  model, params, carry = ready(name)
  exact, = model.log_normalizer(params, carry, KEY)
  assert exact.kind is Kind.EXACT and exact.stderr == 0
  np.testing.assert_allclose(exact.nats, scores(name)[1], rtol=1e-5)


def test_free_energies_sum_hidden_units_out():
  model, params, _ = ready("rbm")
  p, mean = params["model"], jax.nn.sigmoid(params["base"]["logits"])
  x, hidden = np.asarray(FLAT, np.float64), all_states(2, 4) - 0.5
  joint = x @ np.asarray(p["visible_bias"]) + ((x - mean) @ p["weights"] @ hidden.T + hidden @ p["hidden_bias"]).T
  np.testing.assert_allclose(model.log_density(params, FLAT, 1.0), np.logaddexp.reduce(joint, axis=0), rtol=1e-5)


@pytest.mark.slow
def test_a_gaussian_rbm_is_a_mixture_of_gaussians():
  model = GaussianRBM(DataSpec((2,), None), num_hidden=3)
  rng = np.random.default_rng(0)
  params, carry = model.init(KEY, {"x": rng.normal(size=(100, 2)).astype(np.float32) * [1.0, 2.0] + [0.0, 3.0]})
  params["model"] = {**params["model"], "weights": params["model"]["weights"] + rng.normal(size=(2, 3)),
                     "hidden_bias": jnp.array([0.5, -1.0, 0.2])}
  grid = np.stack(np.meshgrid(np.linspace(-15, 15, 301), np.linspace(-25, 31, 561), indexing="ij"), -1).reshape(-1, 2)
  nats = np.asarray(model.log_likelihood(params, carry, {"x": grid.astype(np.float32)}, KEY).nats, np.float64)
  np.testing.assert_allclose(np.exp(nats).sum() * 0.01, 1.0, rtol=1e-3)
  # Draws have its moments.
  drawn = np.asarray(model.sample(params, carry, KEY, 20_000).x, np.float64)
  mean = np.exp(nats) @ grid * 0.01
  cov = (grid * np.exp(nats)[:, None]).T @ grid * 0.01 - np.outer(mean, mean)
  np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * math.sqrt(cov.max() / 20_000))
  np.testing.assert_allclose(np.cov(drawn.T), cov, atol=0.06 * cov.max())


@pytest.mark.parametrize("name", DISCRETE)
def test_the_kernel_keeps_the_model(name):
  """Chains from exact draws are still exact draws after steps of the kernel."""
  model, params, _ = ready(name)
  probs = np.exp(scores(name)[0])
  x = FLAT[jax.random.choice(KEY, len(FLAT), (20_000,), p=jnp.asarray(probs, jnp.float32))]
  step = jax.jit(model.transition)
  for i in range(3):
    x = step(params, jax.random.key(i), x, 1.0)
  assert_frequencies_match(np.asarray(x).astype(int), STATES, probs)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_samples_and_completions_have_the_model_s_frequencies(name):
  model, params, carry = ready(name)
  samples = model.sample(params, carry, KEY, 20_000, num_steps=5)
  assert samples.x.shape == (20_000, 2, 3) and samples.info["nfe"] == model.num_temperatures + 5
  assert_frequencies_match(samples.x, STATES, np.exp(scores(name)[0]))
  known = np.array([[True, False, False], [False, True, True]])
  assert_completions_match(model, params, carry, KEY, STATES[37], known)


@pytest.mark.slow
def test_samples_can_go_on_from_the_chains():
  model, params, carry = ready("rbm")
  drawn = np.asarray(model.sample(params, carry, KEY, 128, start="chains").x, np.uint8)
  assert sorted(map(bytes, drawn)) == sorted(map(bytes, np.asarray(carry["chains"]).reshape(-1, 6)))
  more = model.sample(params, carry, KEY, 20_000, start="chains", num_steps=200)
  assert more.info["nfe"] == 200
  trace = np.asarray(more.info["log_density"][:100], np.float64)
  assert trace.shape == (100, 200) and split_rhat(trace) < 1.02
  assert 0.02 * trace.size < effective_sample_size(trace) < 2 * trace.size
  assert_frequencies_match(more.x, STATES, np.exp(scores("rbm")[0]))


@pytest.mark.parametrize("name, temperatures", [("rbm", (50,))] + [
    pytest.param(name, (5, 100), marks=pytest.mark.slow) for name in MODELS])
def test_annealing_brackets_the_exact_score(name, temperatures):
  """RAISE from below, forward weights from above, and both near with enough temperatures."""
  model, params, carry = ready(name)
  nats, log_z = scores(name)
  x = FLAT[jax.random.choice(KEY, len(FLAT), (4000,), p=jnp.asarray(np.exp(nats), jnp.float32))]
  truth = float(np.mean(model.log_density(params, x, 1.0))) - log_z
  gaps = []
  for num in temperatures:
    annealed = dataclasses.replace(model, normalizer="ais", num_temperatures=num, num_chains=500)
    found = jax.jit(annealed.log_likelihood)(params, carry, {"x": x.reshape(-1, 2, 3)}, KEY)
    normalizer, = annealed.log_normalizer(params, carry, KEY)
    assert found.kind is Kind.SAMPLER_BOUND and normalizer.kind is Kind.LOWER_BOUND
    assert abs(float(normalizer.nats) - log_z) < 4 * float(normalizer.stderr)
    gaps.append(truth - float(np.mean(found.nats)))
  assert -0.01 < gaps[-1] < 0.1
  assert len(gaps) == 1 or gaps[0] > max(gaps[1], 0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rbm", "ising"])
def test_the_interval_covers_log_z(name):
  model, params, _ = ready(name)
  log_z, keys = scores(name)[1], jax.random.split(KEY, 200)
  trial = jax.jit(jax.vmap(lambda key: annealing.estimate(
      annealing.forward(model.path(params), annealing.ladder(20), key, 20).log_weights).interval))
  low, high = np.asarray(trial(keys)).T
  assert np.mean((low <= log_z) & (log_z <= high)) > 0.95 - 3 * math.sqrt(0.95 * 0.05 / len(keys))


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "rbm" else pytest.mark.slow)
                                  for name in ("rbm", "ising", "gwg")])
def test_gradients_from_long_chains_are_those_of_the_likelihood(name):
  model, params, _ = ready(name)
  model = dataclasses.replace(model, num_steps=100, chain_shards=10, chains_per_shard=100)
  data = {"x": STATES[:20]}
  carry = {"chains": jax.random.bernoulli(KEY, 0.5, (10, 100, 2, 3)).astype(jnp.uint8)}

  def exact(params):
    return -jnp.mean(model.log_likelihood(params, {}, data, KEY).nats)

  gradient = jax.jit(jax.grad(lambda params, key: model.loss(params, carry, data, key, jnp.zeros((), jnp.int32)).loss))
  expected = jax.grad(exact)(params)["model"]
  found = [gradient(params, jax.random.key(i))["model"] for i in range(10)]
  for leaf, *draws in zip(*(jax.tree.leaves(tree) for tree in (expected, *found)), strict=True):
    error = np.std(draws, axis=0, ddof=1) / math.sqrt(len(draws)) + 1e-6
    score = (np.mean(draws, axis=0) - leaf) / error
    assert np.abs(score).max() < 8 and np.sqrt(np.mean(np.square(score))) < 1.8  # t with 9 degrees of freedom


def test_couplings_are_symmetric_and_without_a_diagonal():
  _, params, _ = ready("ising")
  pairs = np.asarray(couplings(params))
  np.testing.assert_array_equal(pairs, pairs.T)
  assert np.all(np.diag(pairs) == 0)


def test_a_fresh_model_is_the_data_s_marginals():
  model = RBM(BITS, num_hidden=3, init_scale=0.0)
  x = np.random.default_rng(0).random((400, 2, 3)) < [[0.1, 0.5, 0.9], [0.3, 0.6, 0.02]]
  params, carry = model.init(KEY, {"x": x.astype(np.uint8)})
  probs = np.exp(np.asarray(model.log_likelihood(params, carry, {"x": STATES}, KEY).nats))
  np.testing.assert_allclose(probs @ STATES.reshape(-1, 6), x.reshape(-1, 6).mean(axis=0), atol=2e-3)
  assert carry["chains"].shape == (8, 16, 2, 3) and carry["chains"].dtype == jnp.uint8


@pytest.mark.parametrize("way", ["pcd", pytest.param("cd", marks=pytest.mark.slow)])
def test_training_finds_a_planted_distribution(way):
  """Two patterns with noise: far from its marginals, near enough for chains to cross."""
  rng = np.random.default_rng(0)
  which = rng.integers(0, 2, 2000)
  x = (rng.random((2000, 6)) < np.array([[0.9, 0.9, 0.9, 0.1, 0.1, 0.5], [0.1, 0.1, 0.1, 0.9, 0.9, 0.5]])[which])
  x = x.astype(np.uint8).reshape(-1, 2, 3)
  batches = jnp.asarray(x).reshape(20, 1, 100, 2, 3)
  model = RBM(BITS, num_hidden=3, objective=way, num_steps=2)
  optimizers = optimizers_for(model, optax.adam(optax.linear_schedule(0.02, 0.0, 400)))
  state = init_state(model, optimizers, KEY, {"x": x})
  before = np.mean(model.log_likelihood(state.params, state.carry, {"x": x}, KEY).nats)
  step = make_train_step(model, optimizers)
  state, metrics = jax.jit(lambda state: jax.lax.scan(
      lambda state, i: step(state, {"x": batches[i % 20]}, KEY), state, jnp.arange(400)))(state)
  after = np.mean(model.log_likelihood(state.params, state.carry, {"x": x}, KEY).nats)
  counts = np.bincount(x.reshape(-1, 6) @ (2 ** np.arange(6)), minlength=64) / 2000
  best = np.sum(counts[counts > 0] * np.log(counts[counts > 0]))  # minus the entropy of the data themselves
  assert before < best - 0.8 and after > best - 0.1
  assert set(metrics) == {"loss", "energy_gap", "chain_energy", "chain_mean", "data_mean", "grad_norm"}
  assert np.all(np.isfinite(metrics["energy_gap"].value)) and np.abs(metrics["energy_gap"].value[-50:].mean()) < 0.3


@pytest.mark.slow
def test_the_evaluator_takes_what_the_model_knows():
  model, params, carry = ready("rbm")
  batches = [{"x": jnp.asarray(STATES[i:i + 32])} for i in (0, 32)]
  exact = evaluate_likelihood(model, params, carry, batches, key=KEY)
  np.testing.assert_allclose(exact.nats, scores("rbm")[0], atol=1e-4)
  assert exact.kind is Kind.EXACT
  annealed = evaluate_likelihood(dataclasses.replace(model, normalizer="ais"), params, carry, batches, key=KEY)
  assert annealed.kind is Kind.SAMPLER_BOUND and annealed.nats_mean < exact.nats_mean + 0.05


@pytest.mark.parametrize("fields, message", [
    ({"objective": "pdc"}, "model.objective is 'pdc'; did you mean 'pcd'"),
    ({"normalizer": "exakt"}, "model.normalizer is 'exakt'; did you mean 'exact'"),
    ({"num_steps": 0}, "model.num_steps is 0"),
    ({"chain_shards": 0}, "model.chain_shards is 0"),
    ({"num_temperatures": 0}, "model.num_temperatures is 0"),
    ({"num_chains": 1}, "model.num_chains is 1; it must be at least 2"),
    ({"num_hidden": 0}, "model.num_hidden is 0"),
    ({"init_scale": float("nan")}, "model.init_scale is nan"),
])
def test_fields_that_cannot_be_used_are_named(fields, message):
  with pytest.raises(ConfigError, match=message):
    RBM(BITS, **fields)


def test_another_likelihood_can_be_asked_for():
  model = MODELS["rbm"].scored_by("ais", num_temperatures=7, num_chains=9)
  assert (model.normalizer, model.num_temperatures, model.num_chains) == ("ais", 7, 9)
  with pytest.raises(ConfigError, match="likelihood ais has no setting 'temperatures'; did you mean"):
    model.scored_by("ais", temperatures=7)
  with pytest.raises(ConfigError, match=r"num_chains of likelihood ais is 1\.5; it must be a whole number"):
    model.scored_by("ais", num_chains=1.5)
  with pytest.raises(ConfigError, match="normalizer is 'raise'"):
    model.scored_by("raise")


def test_what_a_model_cannot_do_is_said():
  with pytest.raises(SpecError, match="RBM needs binary data"):
    RBM(DataSpec((3,), 5))
  with pytest.raises(SpecError, match="Ising needs binary data"):
    Ising(DataSpec((3,), None))
  with pytest.raises(SpecError, match="GaussianRBM needs continuous data"):
    GaussianRBM(BITS)
  with pytest.raises(ConfigError, match="smaller side has 30 binary units; enumeration takes at most 26"):
    RBM(DataSpec((40,), 2), num_hidden=30, normalizer="exact")
  with pytest.raises(ConfigError, match=r"model\.sampler is 'site'; did you mean 'sites'\?"):
    Ising(BITS, sampler="site")
  model, params, carry = ready("rbm")
  with pytest.raises(SpecError, match="condition must be None"):
    model.sample(params, carry, KEY, 1, condition=jnp.zeros(1))
  with pytest.raises(ConfigError, match="start is 'chain'; did you mean 'chains'"):
    model.sample(params, carry, KEY, 1, start="chain")
  with pytest.raises(ConfigError, match="num_steps is -1"):
    model.sample(params, carry, KEY, 1, num_steps=-1)
  with pytest.raises(ConfigError, match="keeps none; it must be 'base'"):
    model.sample(params, {}, KEY, 1, start="chains")
  with pytest.raises(SpecError, match=r"x has shape \(1, 6\)"):
    model.unnormalized_log_prob(params, carry, {"x": np.zeros((1, 6), np.uint8)})
