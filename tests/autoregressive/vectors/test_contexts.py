"""MADE, NADE and RNADE conditional on real vectors: probabilities sum to one, steps are passes, posteriors are met."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from gdm.autoregressive.vectors.made import MADE, MaskedMLP
from gdm.autoregressive.vectors.nade import NADE
from gdm.autoregressive.vectors.rnade import RNADE
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.training import Iterated, fit, init_state, make_train_step

KEY = jax.random.key(0)
BITS, REALS = DataSpec((4,), 2, context_dims=3), DataSpec((2,), None, context_dims=1)
CONTEXT = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def scrambled(model, batch):
  """A model with parameters of no structure, so that nothing is zero."""
  params, carry = model.init(KEY, batch)
  leaves, tree = jax.tree.flatten(params["model"])
  keys = jax.random.split(KEY, len(leaves))
  moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
  return {**params, "model": jax.tree.unflatten(tree, moved)}, carry


NETWORK = MaskedMLP(hidden=(8, 8), direct=True)


@pytest.mark.fast_cases("model1")
@pytest.mark.parametrize("model", [MADE(BITS, network=NETWORK), MADE(BITS, network=NETWORK, num_orderings=2),
                                   NADE(BITS, hidden=8), NADE(BITS, hidden=8, block=2, ordering="random")])
def test_probabilities_given_a_context_sum_to_one_and_depend_on_it(model):
  states = np.array(list(itertools.product((0, 1), repeat=4)), np.uint8)
  params, carry = scrambled(model, {"x": states, "context": np.zeros((16, 3), np.float32)})
  tables = []
  for context in CONTEXT:
    batch = {"x": states, "context": np.tile(context, (16, 1))}
    score = model.log_likelihood(params, carry, batch, KEY)
    assert score.given == ("context",)
    np.testing.assert_allclose(np.exp(score.nats).sum(), 1.0, rtol=1e-5)
    tables.append(np.asarray(score.nats))
  assert np.std(tables, axis=0).min() > 1e-3
  # Draws are of the distribution given their context.
  x = np.asarray(model.sample(params, carry, KEY, 20000, {"context": CONTEXT[0]}).x)
  counts = np.bincount(x @ [8, 4, 2, 1], minlength=16) / 20000
  np.testing.assert_allclose(counts, np.exp(tables[0]), atol=0.015)


@pytest.mark.fast_cases("rnade_blocked", "rnade")
@pytest.mark.parametrize("model", [MADE(REALS, network=MaskedMLP(hidden=(8,))), RNADE(REALS, hidden=8),
                                   RNADE(REALS, hidden=8, rescale=False), RNADE(REALS, hidden=8, block=2)],
                         ids=["made", "rnade", "rnade_plain", "rnade_blocked"])
def test_a_step_at_a_time_is_the_pass(model):
  rng = np.random.default_rng(1)
  batch = {"x": rng.normal(size=(32, 2)).astype(np.float32), "context": rng.normal(size=(32, 1)).astype(np.float32)}
  params, _ = scrambled(model, batch)
  cache = model.init_cache(params, 32, context=jnp.asarray(batch["context"]))
  x = jnp.asarray(batch["x"])
  split, order = model.head.split(x), np.asarray(model.layout.order)
  previous = split[order[0]]
  stepwise = []
  for index, variable in enumerate(order):
    cache, logits = model.conditional_step(params, cache, previous, jnp.asarray(index))
    stepwise.append(logits)
    previous = split[variable]
  whole = model.logits(params, model.encode(params, x), None, jnp.asarray(batch["context"]))
  whole = whole.reshape(32, model.head.num_variables, -1)
  for logits, variable in zip(stepwise, order, strict=True):
    np.testing.assert_allclose(logits, whole[:, variable], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.fast_cases("rnade")
@pytest.mark.parametrize("model", [MADE(REALS, network=MaskedMLP(hidden=(32,))), RNADE(REALS, hidden=32)],
                         ids=["made", "rnade"])
def test_a_known_conditional_is_learned(model):
  """x = (c, -c) plus normal noise of 0.5."""
  def batches(first):
    for number in range(first, 10**9):
      rng = np.random.default_rng(number)
      c = rng.normal(size=(256, 1)).astype(np.float32)
      yield {"x": (c * [1, -1] + 0.5 * rng.normal(size=(256, 2))).astype(np.float32), "context": c}

  optimizers = {"model": optax.adam(1e-2)}
  state = init_state(model, optimizers, KEY, next(batches(0)))
  state, _ = fit(make_train_step(model, optimizers), state, Iterated(batches), key=KEY, num_steps=400)
  batch = next(batches(10**6))
  true = scipy.stats.norm(batch["context"] * [1, -1], 0.5).logpdf(batch["x"]).sum(axis=1)
  found = model.log_likelihood(state.params, state.carry, batch, KEY).nats
  assert abs(np.mean(true - np.asarray(found))) < 0.05
  x = np.asarray(model.sample(state.params, state.carry, KEY, 2000, {"context": np.float32([1.5])}).x)
  np.testing.assert_allclose(x.mean(axis=0), [1.5, -1.5], atol=0.1)


def test_what_knows_of_no_context_says_so():
  model = MADE(BITS, network=MaskedMLP(hidden=(8,)))
  batch = {"x": np.zeros((4, 4), np.uint8), "context": np.zeros((4, 3), np.float32)}
  params, carry = model.init(KEY, batch)
  with pytest.raises(SpecError, match="completing and coding do not take"):
    model.complete(params, carry, KEY, batch["x"], np.zeros(4, bool))
  with pytest.raises(SpecError, match="condition must be contexts"):
    model.sample(params, carry, KEY, 2)
  with pytest.raises(SpecError, match="the batch has no 'context'"):
    model.log_likelihood(params, carry, {"x": batch["x"]}, KEY)
