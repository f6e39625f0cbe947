"""What every baseline of discrete data must satisfy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import (
    Batches,
    assert_completions_match,
    assert_samples_match,
    assert_sums_to_one,
    log_probs,
    states_of,
)

from gdm.baselines.bayesian_network import BayesianNetwork
from gdm.baselines.chow_liu import ChowLiu
from gdm.baselines.independent import Independent
from gdm.baselines.markov import MarkovChain
from gdm.baselines.mixture import Mixture
from gdm.baselines.table import Table
from gdm.dataspec import DataSpec
from gdm.errors import DataError, SpecError
from gdm.likelihood import Kind
from gdm.model import HasComplete, HasLogLikelihood, HasSample, HasSolve, Model

BINARY = DataSpec((5, 2), 2)  # {0,1}^10
TERNARY = DataSpec((5,), 3)
COLLIDERS = ((), (0,), (), (2, 1), (3,), (), (5, 0, 4), (5, 2), (1, 7), (8,))
BUILDERS = {
    "independent": Independent,
    "table": Table,
    "markov_1": MarkovChain,
    "markov_3": lambda spec: MarkovChain(spec, order=3),
    "markov_2_homogeneous": lambda spec: MarkovChain(spec, order=2, homogeneous=True),
    "bayesian_network": lambda spec: BayesianNetwork(spec, tuple(
        tuple(p for p in own if p < spec.num_dims) for own in COLLIDERS[:spec.num_dims])),
    "chow_liu": ChowLiu,
    "mixture": lambda spec: Mixture(spec, num_components=3, num_restarts=2, num_iterations=30),
}
CASES = [pytest.param(build, spec, id=f"{name}-{spec.levels}")
         for name, build in BUILDERS.items() for spec in (BINARY, TERNARY)]


def dependent_data(spec, num=2000, seed=0):
  """Examples whose dimensions depend on each other near and far: two noisy prototypes and a walk."""
  rng = np.random.default_rng(seed)
  prototypes = rng.integers(spec.levels, size=(2, spec.num_dims))
  x = prototypes[rng.integers(2, size=num)]
  noise = rng.random(x.shape) < 0.3
  x = np.where(noise, rng.integers(spec.levels, size=x.shape), x)
  x[:, 2] = np.where(rng.random(num) < 0.8, x[:, 1], x[:, 2])
  return x.reshape(num, *spec.event).astype(np.uint8)


@functools.cache
def solved(model, **options):
  return model.solve(jax.random.key(0), Batches(dependent_data(model.spec), **options))


@pytest.mark.fast_cases("markov_2_homogeneous-3")
@pytest.mark.parametrize("build, spec", CASES)
def test_probabilities_sum_to_one(build, spec):
  model = build(spec)
  assert_sums_to_one(model, *solved(model))


@pytest.mark.fast_cases("mixture-3")
@pytest.mark.parametrize("build, spec", CASES)
def test_samples_match_enumerated_probabilities(build, spec):
  model = build(spec)
  assert_samples_match(model, *solved(model), jax.random.key(1))


@pytest.mark.fast_cases("3")
@pytest.mark.parametrize("spec", [BINARY, TERNARY], ids=["2", "3"])
def test_a_bayesian_network_completes_what_ancestors_tell(spec):
  model = BUILDERS["bayesian_network"](spec)
  params, carry = solved(model)
  x = dependent_data(spec, num=1, seed=3)[0]
  known = np.isin(np.arange(spec.num_dims), [0, 1, 2, 5, 7]).reshape(spec.event)
  assert_completions_match(model, params, carry, jax.random.key(2), x, known)


@pytest.mark.fast_cases("3-independent")
@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"bayesian_network"}))
@pytest.mark.parametrize("spec", [BINARY, TERNARY], ids=["2", "3"])
def test_completes_any_region(name, spec):
  model = BUILDERS[name](spec)
  params, carry = solved(model)
  x = dependent_data(spec, num=1, seed=4)[0]
  known = np.random.default_rng(1).random(spec.event) < 0.4
  known.flat[-1] = True
  assert_completions_match(model, params, carry, jax.random.key(2), x, known)


@pytest.mark.parametrize("build, spec", CASES)
def test_solved_parameters_have_the_structure_of_init(build, spec):
  """What a checkpoint is restored into: eval_shape(init) must foretell what solve returns."""
  model = build(spec)
  batch = {"x": jax.ShapeDtypeStruct((4, *spec.event), jnp.uint8)}
  expected = jax.eval_shape(model.init, jax.random.key(0), batch)
  found = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), solved(model))
  assert jax.tree.structure(expected) == jax.tree.structure(found)
  assert jax.tree.leaves(expected) == jax.tree.leaves(found)
  assert set(found[0]) == {"model"}


@pytest.mark.fast_cases("table-2", "markov_2_homogeneous-3")
@pytest.mark.parametrize("build, spec", CASES)
def test_init_is_a_distribution_too(build, spec):
  model = build(spec)
  params, carry = model.init(jax.random.key(0), {"x": jnp.zeros((4, *spec.event), jnp.uint8)})
  np.testing.assert_allclose(log_probs(model, params, carry, states_of(spec)[:7]),
                             -spec.num_dims * np.log(spec.levels), rtol=1e-5)


@pytest.mark.fast_cases("chow_liu", "independent", "table")
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_contract(name):
  spec = TERNARY
  model = BUILDERS[name](spec)
  for protocol in (Model, HasLogLikelihood, HasSample, HasComplete, HasSolve):
    assert isinstance(model, protocol)
  assert model.objectives == ()
  hash(model)
  params, carry = solved(model)
  score = jax.jit(lambda x: model.log_likelihood(params, carry, {"x": x}, jax.random.key(0)))
  result = score(states_of(spec)[:7].astype(np.uint8))
  assert (result.kind, result.given) == (Kind.EXACT, ())
  assert result.nats.shape == (7,) and result.num_dims.tolist() == [spec.num_dims] * 7
  with pytest.raises(SpecError, match="condition must be None"):
    model.sample(params, carry, jax.random.key(0), 2, condition=jnp.zeros(2))


@pytest.mark.fast_cases("chow_liu-2", "chow_liu-3")
@pytest.mark.parametrize("build, spec", CASES)
def test_unseen_inputs_keep_a_finite_likelihood(build, spec):
  model = build(spec)
  constant = np.zeros((20, *spec.event), np.uint8)
  params, carry = model.solve(jax.random.key(0), Batches(constant))
  assert np.isfinite(log_probs(model, params, carry, states_of(spec))).all()
  assert log_probs(model, params, carry, constant[:1])[0] > -1.0 * spec.num_dims


@pytest.mark.fast_cases("chow_liu")
@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"mixture"}))
def test_the_cut_into_batches_does_not_matter(name):
  model = BUILDERS[name](TERNARY)
  whole, _ = solved(model, size=2000)
  ragged, _ = solved(model, size=333)
  jax.tree.map(np.testing.assert_array_equal, whole, ragged)


@pytest.mark.fast_cases("chow_liu", "table")
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_masked_examples_do_not_count(name):
  model = BUILDERS[name](TERNARY)
  x = dependent_data(TERNARY, num=300)
  mask = np.arange(300) < 200
  padded, _ = model.solve(jax.random.key(0), [{"x": jnp.asarray(x), "mask": jnp.asarray(mask, jnp.float32)}])
  alone, _ = model.solve(jax.random.key(0), [{"x": jnp.asarray(x[:200])}])
  if name == "mixture":  # its starting points are drawn from real examples only, but by other ranks
    assert np.isfinite(padded["model"]["logits"]).all()
  else:
    jax.tree.map(np.testing.assert_array_equal, padded, alone)


@pytest.mark.fast_cases("independent")
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_low_temperature_draws_likelier_examples(name):
  model = BUILDERS[name](TERNARY)
  params, carry = solved(model)
  warm, cold = (log_probs(model, params, carry, model.sample(params, carry, jax.random.key(0), 500, temperature=t).x)
                for t in (1.0, 0.3))
  assert cold.mean() > warm.mean() + 0.5


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_bad_input_is_named(name):
  with pytest.raises(DataError, match="there is no batch"):
    BUILDERS[name](TERNARY).solve(jax.random.key(0), [])
  with pytest.raises(SpecError, match=r"model\.alpha is 0"):
    dataclasses.replace(BUILDERS[name](TERNARY), alpha=0.0)
  if name != "independent":
    with pytest.raises(SpecError, match="needs discrete data"):
      BUILDERS[name](DataSpec((5,), None))
  model = BUILDERS[name](TERNARY)
  params, carry = model.init(jax.random.key(0), {"x": jnp.zeros((1, 5), jnp.int32)})
  with pytest.raises(DataError, match=r"x has shape \(3, 4\)"):
    model.log_likelihood(params, carry, {"x": jnp.zeros((3, 4), jnp.int32)}, jax.random.key(0))
