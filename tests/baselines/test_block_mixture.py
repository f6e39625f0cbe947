"""Mixtures of products over blocks: a distribution over all of {0,1}^D, fitted by an EM that keeps its promise."""

import dataclasses
import functools
import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import (
  Batches,
  all_states,
  assert_completions_match,
  assert_samples_match,
  assert_sums_to_one,
  log_probs,
  states_of,
)

from gdm.autoregressive.vectors.heads import BlockHead
from gdm.baselines.block_mixture import BlockMixture, _Fit
from gdm.baselines.mixture import Mixture
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, SpecError
from gdm.likelihood import Kind
from gdm.model import HasComplete, HasLogLikelihood, HasSample, HasSolve, Model
from gdm.runs.registry import build_model

BLOCKS = DataSpec((5, 2), 2, blocks=((0, 1, 2), (3,), (4, 7, 8), (5, 6), (9,)))
BITS = DataSpec((5, 2), 2)
SMALL = {"num_components": 8, "num_runs": 2, "num_iterations": 30}


def one_hot(states, sizes):
  """[num, blocks] states, 0 for none, as side-by-side columns."""
  return np.concatenate([np.eye(size + 1, dtype=np.uint8)[states[:, b]][:, 1:] for b, size in enumerate(sizes)], axis=1)


def messy_data(spec, num=1000, seed=0):
  """Two prototypes with flipped bits, so that some patterns are no state of their block."""
  rng = np.random.default_rng(seed)
  prototypes = np.zeros((2, 10), np.uint8)
  prototypes[0, [0, 3, 7]], prototypes[1, [1, 4, 6, 9]] = 1, 1
  flips = rng.random((num, 10)) < 0.1
  return (prototypes[rng.integers(2, size=num)] ^ flips).reshape(num, *spec.event)


@functools.cache
def solved(model):
  return model.solve(jax.random.key(0), Batches(messy_data(model.spec)))


def with_blocks(**changes):
  return BlockMixture(BLOCKS, **{**SMALL, "fallback": 0.1, **changes})


both = pytest.mark.parametrize("model", [with_blocks(), BlockMixture(BITS, **SMALL)], ids=["blocks", "bits"])


@pytest.mark.slow
@both
def test_sums_to_one(model):
  assert_sums_to_one(model, *solved(model))
  assert_sums_to_one(model, *model.init(jax.random.key(0), {"x": jnp.zeros((1, 5, 2), jnp.uint8)}))


@pytest.mark.slow
@both
def test_samples_match_the_enumerated_probabilities(model):
  assert_samples_match(model, *solved(model), jax.random.key(1))


@pytest.mark.slow
@both
def test_completions_match_the_enumerated_conditionals(model):
  known = np.isin(np.arange(10), [0, 1, 2, 5, 6, 9]).reshape(5, 2)
  assert_completions_match(model, *solved(model), jax.random.key(2), messy_data(model.spec, 1, seed=3)[0], known)


def test_a_part_of_a_block_cannot_be_known():
  model, x = with_blocks(), jnp.zeros((2, 5, 2), jnp.uint8)
  known = jnp.asarray(np.arange(10).reshape(5, 2) == 7)
  with pytest.raises(SpecError, match=r"part of the block of dimensions \[4, 7, 8\]"):
    model.complete(*solved(model), jax.random.key(0), x, known)


@pytest.mark.slow
def test_without_blocks_it_is_a_mixture_of_bernoullis():
  model, x = BlockMixture(BITS, **SMALL), states_of(BITS)
  params, carry = solved(model)
  logits = np.asarray(params["model"]["logits"])
  bernoullis = {"log_weights": params["model"]["log_weights"],
                "logits": jnp.asarray(np.stack([logits[:, 10:], logits[:, :10]], axis=-1))}
  np.testing.assert_allclose(log_probs(Mixture(BITS, num_components=16), {"model": bernoullis}, {}, x),
                             log_probs(model, params, carry, x), rtol=1e-4)
  spelled_out = BlockMixture(dataclasses.replace(BITS, blocks=tuple((i,) for i in range(10))), **SMALL)
  jax.tree.map(np.testing.assert_array_equal, solved(spelled_out), solved(model))


@pytest.mark.slow
def test_a_component_has_the_distribution_of_a_block_head():
  model = with_blocks(num_components=1, num_runs=1)
  params, carry = solved(model)
  logits = np.asarray(params["model"]["logits"])[0]
  none = np.repeat(logits[10:], [len(block) for block in BLOCKS.blocks])[np.argsort(np.concatenate(BLOCKS.blocks))]
  x = states_of(BLOCKS)
  score = jax.jit(BlockHead(BLOCKS, fallback=0.1).log_prob)
  scores = score(jnp.tile(logits[:10] - none, (len(x), 1)), jnp.asarray(x.reshape(-1, 10)))
  np.testing.assert_allclose(log_probs(model, params, carry, x), scores.sum(axis=1), rtol=1e-4)


def history(model, x, seed=0):
  told = []
  params, carry = model.solve(jax.random.key(seed), Batches(x, size=300), lambda i, metrics: told.append((i, metrics)))
  assert [i for i, _ in told] == list(range(len(told)))
  np.testing.assert_allclose(told[-1][1]["nll"], -log_probs(model, params, carry, x).mean(), rtol=1e-5)
  return params, np.array([metrics["objective"] for _, metrics in told if "objective" in metrics])


@pytest.mark.slow
@pytest.mark.parametrize("spec, alpha", [(BLOCKS, 0.1), (BLOCKS, 2.0), (BITS, 0.1)])
def test_em_never_lowers_the_posterior(spec, alpha):
  model = BlockMixture(spec, 8, num_runs=1, alpha=alpha, min_count=0.0, learn_iterations=0, fallback=0.1,
                       tolerance=0.0)
  _, objective = history(model, messy_data(spec))
  assert len(objective) > 20 and np.diff(objective).max() < 1e-6


@pytest.mark.slow
def test_between_removals_em_never_lowers_the_posterior():
  model = BlockMixture(BLOCKS, 40, num_runs=1, learn_iterations=0, fallback=0.1, tolerance=1e-6)
  params, objective = history(model, messy_data(BLOCKS, 500))
  removed = int((np.asarray(params["model"]["log_weights"]) < -5000).sum())
  settled = np.diff(objective[11:])
  assert 0 < removed < 40 and len(settled) > 20
  assert (settled > 1e-6).sum() <= removed
  assert settled[-5:].max() < 1e-6


@pytest.mark.slow
def test_removed_components_are_finite_and_do_not_matter():
  model = with_blocks(num_components=60, num_runs=1)
  params, carry = solved(model)
  weights = np.asarray(params["model"]["log_weights"])
  kept = weights > -5000
  assert 2 <= kept.sum() < 60 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
  np.testing.assert_allclose(np.exp(weights[kept]).sum(), 1.0, rtol=1e-5)
  alone = jax.tree.map(lambda leaf: leaf[kept], params)
  x = states_of(BLOCKS)
  np.testing.assert_allclose(log_probs(model, alone, carry, x), log_probs(model, params, carry, x), rtol=1e-5)


@pytest.mark.slow
def test_finds_a_planted_mixture_of_unknown_size():
  rng = np.random.default_rng(0)
  sizes, weights = (3, 5, 1, 4, 2, 6, 1, 3), np.array([0.4, 0.3, 0.2, 0.1])
  probs = [rng.dirichlet(np.full(size + 1, 0.3), size=4) for size in sizes]

  def draw(num):
    component = rng.choice(4, size=num, p=weights)
    return np.stack([(rng.random((num, 1)) > p.cumsum(axis=1)[component, :-1]).sum(axis=1) for p in probs], axis=1)

  states = draw(5000)
  starts = np.cumsum((0, *sizes))
  spec = DataSpec((25,), 2, blocks=tuple(tuple(range(a, b)) for a, b in itertools.pairwise(starts)))
  model = BlockMixture(spec, num_components=30, num_runs=1, min_count=60.0)
  params, carry = model.solve(jax.random.key(0), Batches(one_hot(draw(2000), sizes)))
  truth = np.log(sum(w * np.prod([p[k][states[:, b]] for b, p in enumerate(probs)], axis=0)
                     for k, w in enumerate(weights))).mean()
  ours = log_probs(model, params, carry, one_hot(states, sizes)).mean()
  assert truth - 0.05 < ours < truth + 0.01
  found = np.exp(np.asarray(params["model"]["log_weights"]))
  np.testing.assert_allclose(np.sort(found[found > 0]), np.sort(weights), atol=0.05)


def test_concentrations_are_learned():
  """Counts drawn from Dirichlet-multinomials of known concentrations give these back."""
  spec = DataSpec((8,), 2, blocks=((0, 1, 2, 3), (4, 5, 6, 7)))
  rng, marginal, true = np.random.default_rng(0), np.full(10, 0.2), np.array([0.5, 20.0])
  draws = [np.stack([rng.multinomial(100, rng.dirichlet(np.full(5, c / 5))) for _ in range(1000)]) for c in true]
  states = np.concatenate([draws[0][:, :4], draws[1][:, :4], draws[0][:, 4:], draws[1][:, 4:]], axis=1).astype(float)
  fit = _Fit(BlockMixture(spec), marginal)
  found = np.array([1.0, 1.0])
  for _ in range(60):
    found = np.asarray(fit._learned({"states": states}, found), np.float64)
  np.testing.assert_allclose(found, true, rtol=0.1)


@pytest.mark.fast_cases("bits")
@both
def test_unseen_inputs_keep_a_finite_likelihood(model):
  constant = np.zeros((20, 5, 2), np.uint8)
  params, carry = model.solve(jax.random.key(0), Batches(constant))
  assert np.isfinite(log_probs(model, params, carry, states_of(model.spec))).all()
  assert log_probs(model, params, carry, constant[:1])[0] > -1.0


@pytest.mark.slow
def test_fewer_examples_than_components():
  model = BlockMixture(DataSpec((4,), 2, blocks=((0, 1), (2, 3))), num_components=10, num_runs=1)
  params, carry = model.solve(jax.random.key(0), Batches(np.array([[0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 1, 0]])))
  np.testing.assert_allclose(np.exp(log_probs(model, params, carry, all_states(2, 4))).sum(), 1.0, rtol=1e-5)


@pytest.mark.slow
@both
def test_low_temperature_draws_likelier_examples(model):
  params, carry = solved(model)
  warm, cold = (log_probs(model, params, carry, model.sample(params, carry, jax.random.key(0), 500, temperature=t).x)
                for t in (1.0, 0.3))
  assert cold.mean() > warm.mean() + 0.5


def test_padding_does_not_count():
  x, mask = messy_data(BLOCKS, 300), np.arange(300) < 200
  padded = [{"x": jnp.asarray(x), "mask": jnp.asarray(mask, jnp.float32)}]
  model = with_blocks(num_components=1, num_runs=1)
  alone, _ = model.solve(jax.random.key(0), Batches(x[:200]))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
               model.solve(jax.random.key(0), padded)[0], alone)


@pytest.mark.slow
@both
def test_contract(model):
  for protocol in (Model, HasLogLikelihood, HasSample, HasComplete, HasSolve):
    assert isinstance(model, protocol)
  assert model.objectives == () and isinstance(hash(model), int)
  batch = {"x": jax.ShapeDtypeStruct((4, 5, 2), jnp.uint8)}
  expected = jax.eval_shape(model.init, jax.random.key(0), batch)
  found = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), solved(model))
  assert expected == found and set(found[0]) == {"model"}
  result = model.log_likelihood(*solved(model), {"x": states_of(model.spec)[:7].astype(np.uint8)}, jax.random.key(0))
  assert (result.kind, result.given, result.num_dims.tolist()) == (Kind.EXACT, (), [10] * 7)
  with pytest.raises(SpecError, match="condition must be None"):
    model.sample(*solved(model), jax.random.key(0), 2, condition=jnp.zeros(2))
  with pytest.raises(DataError, match="there is no batch"):
    model.solve(jax.random.key(0), [])


@pytest.mark.parametrize("change, error, message", [
    ({"alpha": 0.0}, SpecError, r"model\.alpha is 0"),
    ({"num_runs": 0}, SpecError, r"model\.num_runs is 0"),
    ({"num_components": 0}, SpecError, r"model\.num_components is 0"),
    ({"min_count": -1.0}, SpecError, r"model\.min_count is -1"),
    ({"seed_weight": 1.0}, SpecError, r"model\.seed_weight is 1"),
    ({"fallback": 0.0}, ConfigError, "fallback is 0"),
    ({"spec": DataSpec((5,), 3)}, SpecError, "BlockMixture needs binary data"),
])
def test_settings_out_of_range_are_named(change, error, message):
  with pytest.raises(error, match=message):
    dataclasses.replace(with_blocks(), **change)


@pytest.mark.parametrize("variant", ["binarized_digits", "binarized_mnist", "npz"])
def test_config_builds_the_model(variant):
  config = importlib.import_module("configs.baselines.block_mixture").get_config(variant)
  assert build_model(config.model.to_dict(), BITS).spec == BITS


def test_config_has_the_models_defaults():
  module = importlib.import_module("configs.baselines.block_mixture")
  assert build_model(module.get_config("npz").model.to_dict(), BLOCKS) == BlockMixture(BLOCKS)
  with pytest.raises(ConfigError, match="has no variant 'digit'"):
    module.get_config("digit")
