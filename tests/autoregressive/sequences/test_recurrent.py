"""Recurrent models: what their states carry; what holds for all networks of sequences is in test_networks.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.sequence_models import LONGER, build, cases_of, sequence_model
from helpers.token_models import in_one_pass, some

from gdm.dataspec import DataSpec

each = pytest.mark.parametrize("case", cases_of("recurrent"))


@pytest.mark.fast_cases("rnn")
@each
def test_logits_depend_on_the_tokens_before_and_on_nothing_else(case):
  model, params, _ = build(case, LONGER, 0.1)
  previous = model.previous(some(LONGER, 1))
  vectors = params["model"]["embedding"]["table"][previous[0]]

  def logits(vectors):
    # One row of the embedding per position, so that each can be moved alone.
    moved = {**params["model"], "embedding": {"table": vectors}}
    moved.setdefault("readout", {"kernel": jnp.ones((8, len(vectors) - 1)), "bias": jnp.zeros(len(vectors) - 1)})
    if model.network.tie_embeddings is False:
      moved["readout"] = jax.tree.map(lambda x: jnp.resize(x, (*x.shape[:-1], len(vectors) - 1)), moved["readout"])
    network = model.network.clone(levels=len(vectors) - 1, tie_embeddings=False)
    return network.apply({"params": moved}, jnp.arange(len(vectors))[None])[0]

  jacobian = np.abs(np.asarray(jax.jit(jax.jacrev(logits))(vectors))).max(axis=(1, 3))
  np.testing.assert_array_equal(jacobian > 0, np.tri(model.num_steps, dtype=bool))


@pytest.mark.fast_cases("lstm")
@each
def test_no_logit_depends_on_its_future_tokens(case):
  model, params, _ = build(case, LONGER)
  x, logits = some(LONGER, 1), functools.partial(in_one_pass, model, params)
  first = np.asarray(logits(x))
  for late in range(12):
    other = np.asarray(logits(x.at[0, late].add(1) % 5))
    np.testing.assert_array_equal((first != other).any(axis=(0, 2)), np.arange(12) > late)


def in_chunks(model, params, x, size):
  """Logits of a long text x [batch, steps], `size` tokens at a time, the state handed on."""
  previous, state, parts = model.previous(x), model.init_cache(params, len(x)), []
  chunk = jax.jit(functools.partial(model.network.apply, {"params": params["model"]}, method="chunk"))
  for start in range(0, x.shape[1], size):
    logits, state = chunk(previous[:, start:start + size], state)
    parts.append(logits)
  return jnp.concatenate(parts, axis=1)


@pytest.mark.fast_cases("40-lstm")
@each
@pytest.mark.parametrize("size", [1, 5, 40])
def test_chunks_that_hand_the_state_on_give_the_whole(case, size):
  model, params, _ = build(case, LONGER)
  x = some(DataSpec((40,), 5), 3)  # longer than any example
  np.testing.assert_allclose(in_chunks(model, params, x, size), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.fast_cases("lstm")
@each
def test_a_small_vocabulary_projected_whole_gives_the_same(case):
  """Few tokens go through their vectors, many through the projected vocabulary."""
  model, params, _ = build(case, LONGER)
  many = model.logits(params, some(LONGER))
  few = model.logits(params, some(LONGER)[:1, :4])
  np.testing.assert_allclose(few, many[:1, :4], rtol=1e-4, atol=1e-4)


def test_the_initial_state_is_learned():
  model = sequence_model("lstm", LONGER)
  params = jax.eval_shape(model.init, jax.random.key(0), {"x": some(LONGER)})[0]["model"]
  assert set(params["layers_0"]) >= {"initial", "input_kernel", "input_bias", "kernel"}
