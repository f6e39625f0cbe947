"""Recurrent models: exact, causal, and the same whether in one pass, step by step, or in chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one
from helpers.token_models import (
  assert_samples_are_the_naive_ones,
  by_steps,
  in_one_pass,
  moved_from_start,
  some,
  token_model,
  train,
)

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError

KEY = jax.random.key(0)
SMALL = DataSpec((3,), 3)
LONGER = DataSpec((12,), 5)
FIELDS = {
    "rnn": {"cell": "rnn", "num_layers": 2, "width": 8, "embedding_width": 4},
    "lstm": {"cell": "lstm", "num_layers": 2, "width": 8, "embedding_width": 7},
    "gru": {"cell": "gru", "num_layers": 3, "width": 8, "tie_embeddings": True},
}
each = pytest.mark.parametrize("name", FIELDS)


@functools.lru_cache
def build(name, spec=SMALL, scale=0.5):
  model = token_model("recurrent", spec, **FIELDS[name])
  return model, *moved_from_start(model, scale)


@pytest.mark.fast_cases("gru")
@each
def test_sums_to_one_and_samples_match(name):
  assert_sums_to_one(*build(name))
  assert_samples_match(*build(name), jax.random.key(2), num=5000)


@pytest.mark.fast_cases("gru")
@each
def test_completions_match_the_enumerated_conditionals(name):
  assert_completions_match(*build(name), jax.random.key(3), np.array([2, 0, 0]), np.array([True, False, False]), 5000)


@pytest.mark.slow
@each
def test_steps_give_the_logits_of_one_pass(name):
  model, params, _ = build(name, LONGER)
  x = some(LONGER)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.fast_cases("rnn")
@each
def test_logits_depend_on_the_tokens_before_and_on_nothing_else(name):
  model, params, _ = build(name, LONGER, 0.1)
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
def test_no_logit_depends_on_its_future_tokens(name):
  model, params, _ = build(name, LONGER)
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
def test_chunks_that_hand_the_state_on_give_the_whole(name, size):
  model, params, _ = build(name, LONGER)
  x = some(DataSpec((40,), 5), 3)  # longer than any example
  np.testing.assert_allclose(in_chunks(model, params, x, size), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.fast_cases("lstm")
@each
def test_a_small_vocabulary_projected_whole_gives_the_same(name):
  """Few tokens go through their vectors, many through the projected vocabulary."""
  model, params, _ = build(name, LONGER)
  many = model.logits(params, some(LONGER))
  few = model.logits(params, some(LONGER)[:1, :4])
  np.testing.assert_allclose(few, many[:1, :4], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@each
def test_every_parameter_moves_the_initial_state_too(name):
  model = token_model("recurrent", LONGER, dropout=0.1, **FIELDS[name])
  params, carry = jax.jit(model.init)(KEY, {"x": some(LONGER)})
  moved = train(model, params, carry, 2)
  assert set(params["model"]["layers_0"]) >= {"initial", "input_kernel", "input_bias", "kernel"}
  for path, before in jax.tree_util.tree_leaves_with_path(params):
    after = functools.reduce(lambda tree, key: tree[key.key], path, moved)
    if "table" in jax.tree_util.keystr(path):
      assert (np.asarray(before) != np.asarray(after)).any(axis=1).all(), f"{path} has rows that never move"
    else:
      assert (np.asarray(before) != np.asarray(after)).mean() > 0.9, f"{path} does not move"


@pytest.mark.slow
def test_dropout_is_of_training_alone():
  model, params, carry = build("lstm", LONGER)
  noisy = token_model("recurrent", LONGER, dropout=0.5, **FIELDS["lstm"])
  batch = {"x": some(LONGER)}
  loss = jax.jit(lambda key: noisy.loss(params, carry, batch, key, jnp.int32(0)).loss)
  assert loss(jax.random.key(0)) != loss(jax.random.key(1))
  np.testing.assert_array_equal(noisy.log_likelihood(params, carry, batch, KEY).nats,
                                model.log_likelihood(params, carry, batch, KEY).nats)


@pytest.mark.fast_cases("gru")
@each
def test_padding_never_changes_a_likelihood(name):
  model, params, carry = build(name, LONGER)
  x, length = some(LONGER), jnp.asarray(np.random.default_rng(1).integers(1, 13, 16))
  padding = jnp.arange(12) >= length[:, None]
  score = jax.jit(lambda x: model.log_likelihood(params, carry, {"x": x, "length": length}, KEY))
  first, other = (score(jnp.where(padding, value, x)) for value in (0, 99))
  np.testing.assert_array_equal(first.nats, other.nats)
  np.testing.assert_array_equal(first.num_dims, length)
  short = token_model("recurrent", DataSpec((int(length[0]),), 5), **FIELDS[name])
  alone = short.log_likelihood(params, carry, {"x": x[:1, :length[0]]}, KEY).nats
  np.testing.assert_allclose(alone[0], first.nats[0], rtol=1e-5)


@pytest.mark.fast_cases("gru")
@each
def test_cached_samples_are_those_of_the_naive_path(name):
  assert_samples_are_the_naive_ones(*build(name, LONGER))


@pytest.mark.fast_cases("lstm")
@each
def test_generation_is_that_of_the_naive_path_and_has_no_limit(name):
  model, params, _ = build(name, LONGER)
  assert model.context is None
  prompt, lengths, steps = np.array([[1, 2, 3, 4, 0], [4, 0, 9, 9, 9]]), np.array([5, 2]), 30
  keys = jax.random.split(jax.random.key(8), 2)
  out = model.generate(params, keys, prompt=prompt, prompt_length=lengths, max_length=steps, with_log_probs=True)

  conditionals = functools.partial(in_one_pass, model, params)
  for row, length in enumerate(lengths):
    x = jnp.zeros((1, steps), jnp.int32).at[0, :length].set(prompt[row, :length])
    for index in range(length, steps):
      drawn = jax.random.categorical(jax.random.fold_in(keys[row], index), conditionals(x)[0, index])
      x = x.at[0, index].set(drawn)
    np.testing.assert_array_equal(out.tokens[row], x[0])
    scores = jnp.take_along_axis(jax.nn.log_softmax(conditionals(x)), x[..., None], axis=-1)[0, :, 0]
    np.testing.assert_allclose(out.log_probs[row], np.where(np.arange(steps) < length, 0, scores), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("fields", "message"), [
    ({"cell": "gry"}, "cell is 'gry'; did you mean 'gru'"),
    ({"num_layers": 0}, "num_layers is 0"),
    ({"embedding_width": -1}, "embedding_width is -1"),
    ({"embedding_width": 8, "width": 16, "tie_embeddings": True}, "embedding_width is 8; with tie_embeddings .* 16"),
    ({"dropout": 1.0}, r"network.dropout is 1.0; it must be at least 0 and below 1"),
])
def test_fields_that_cannot_be(fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model("recurrent", SMALL, **fields)
