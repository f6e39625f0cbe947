"""The conditional RBM: normalized given each context, draws from it, and trained towards what depends on a context."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.enumeration import all_states, assert_frequencies_match

from gdm.dataspec import DataSpec
from gdm.energy.discrete.conditional_rbm import ConditionalRBM
from gdm.errors import SpecError
from gdm.likelihood import Kind

KEY = jax.random.key(0)
SPEC = DataSpec((4,), 2, context_dims=2)
CONTEXTS = np.array([[0.0, 0.0], [1.0, -2.0], [-1.5, 0.5]], np.float32)


def moved(model):
  params, carry = model.init(KEY, {"x": all_states(2, 4)})
  assert carry == {}
  noise = iter(jax.random.split(jax.random.key(1), 5))
  return {**params, "model": jax.tree.map(lambda leaf: leaf + jax.random.normal(next(noise), leaf.shape),
                                          params["model"])}, carry


def scored(model, params, carry, context):
  x = all_states(2, 4)
  return model.log_likelihood(params, carry, {"x": x, "context": np.tile(context, (16, 1))}, KEY)


def test_it_sums_to_one_given_each_context():
  model = ConditionalRBM(SPEC, num_hidden=3)
  params, carry = moved(model)
  found = [scored(model, params, carry, context) for context in CONTEXTS]
  assert found[0].kind is Kind.EXACT and found[0].given == ("context",)
  sums = [np.exp(np.asarray(each.nats, np.float64)).sum() for each in found]
  np.testing.assert_allclose(sums, 1.0, rtol=1e-4)
  assert jnp.abs(found[0].nats - found[1].nats).max() > 0.5


@pytest.mark.slow
def test_annealing_comes_to_the_exact_numbers_and_draws_are_from_them():
  exact = ConditionalRBM(SPEC, num_hidden=3)
  annealed = ConditionalRBM(SPEC, num_hidden=3, normalizer="ais", num_temperatures=200)
  params, carry = moved(exact)
  truth = scored(exact, params, carry, CONTEXTS[1])
  bound = scored(annealed, params, carry, CONTEXTS[1])
  assert bound.kind is Kind.SAMPLER_BOUND and bound.unbiased
  np.testing.assert_allclose(bound.nats, truth.nats, atol=0.3)
  drawn = annealed.sample(params, carry, KEY, 10_000, CONTEXTS[1]).x
  assert_frequencies_match(np.asarray(drawn), all_states(2, 4), np.exp(np.asarray(truth.nats, np.float64)))


@pytest.mark.slow
def test_training_learns_what_the_context_says():
  model = ConditionalRBM(SPEC, num_hidden=3, num_steps=2)
  rng = np.random.default_rng(0)
  sign = rng.choice([-1.0, 1.0], 512)
  x = (rng.random((512, 4)) < np.where(sign[:, None] > 0, [0.9, 0.9, 0.1, 0.5], [0.1, 0.1, 0.9, 0.5])).astype(np.uint8)
  batch = {"x": x, "context": np.stack([sign, np.zeros(512)], axis=1).astype(np.float32)}
  params, carry = model.init(KEY, batch)
  optimizer = optax.adam(2e-2)
  state = optimizer.init(params["model"])

  @jax.jit
  def train(own, state, key):
    grads = jax.grad(lambda own: model.loss({**params, "model": own}, carry, batch, key, jnp.zeros(())).loss)(own)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(own, updates), state

  own = params["model"]
  for index in range(300):
    own, state = train(own, state, jax.random.fold_in(KEY, index))
  nats = float(model.log_likelihood({**params, "model": own}, carry, batch, KEY).nats.mean())
  entropy = -(3 * (0.9 * np.log(0.9) + 0.1 * np.log(0.1)) + np.log(0.5))
  assert abs(-nats - entropy) < 0.1, (nats, entropy)


def test_it_needs_a_context():
  with pytest.raises(SpecError, match="ConditionalRBM needs data with a context"):
    ConditionalRBM(DataSpec((4,), 2))
  model = ConditionalRBM(SPEC, num_hidden=3)
  with pytest.raises(SpecError, match="the batch has no 'context'"):
    model.log_likelihood(*moved(model), {"x": all_states(2, 4)}, KEY)
