"""What holds for every network of sequences: exact, and the same whether in one pass or step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, log_probs, states_of
from helpers.sequence_models import CASES, LONGER, SMALL, build, cases_of, sequence_model
from helpers.token_models import (
  assert_samples_are_the_naive_ones,
  by_steps,
  in_one_pass,
  some,
  token_model,
  train,
)

from gdm.autoregressive.token_model import token_log_prob
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import HasPrefill

KEY = jax.random.key(0)
each = pytest.mark.parametrize("case", CASES)
# Dilations of "gaps" reach beyond a short example.
each_of_short_examples = pytest.mark.parametrize("case", [case for case in CASES if case != "gaps"])
one_of_each_network = pytest.mark.parametrize("case", ["lstm", "learned", "two_taps"])


@pytest.mark.fast_cases("two_taps")
@each_of_short_examples
def test_sums_to_one_and_samples_match(case):
  assert_sums_to_one(*build(case))
  assert_samples_match(*build(case), jax.random.key(2), num=10_000)


@pytest.mark.fast_cases("two_taps")
@one_of_each_network
def test_each_conditional_sums_to_one_and_their_product_is_the_joint(case):
  model, params, carry = build(case)
  states = jnp.asarray(states_of(SMALL))
  steps = np.asarray(jax.nn.log_softmax(by_steps(model, params, states)))
  np.testing.assert_allclose(np.exp(steps).sum(-1), 1.0, rtol=1e-5)
  joint = np.take_along_axis(steps, np.asarray(states)[..., None], -1)[..., 0].sum(-1)
  np.testing.assert_allclose(joint, log_probs(model, params, carry, states), rtol=1e-4, atol=1e-5)


@pytest.mark.fast_cases("gru")
@each_of_short_examples
def test_completions_match_the_enumerated_conditionals(case):
  assert_completions_match(*build(case), jax.random.key(3), np.array([2, 0, 0]), np.array([True, False, False]), 5000)


@pytest.mark.fast_cases("40-gaps")
@each
@pytest.mark.parametrize("num_steps", [5, 12, 40])
def test_steps_give_the_logits_of_one_pass(case, num_steps):
  """Within a receptive field, beyond it, and, where the network has no limit, beyond the examples."""
  model, params, _ = build(case, LONGER)
  if model.context is not None:
    num_steps = min(num_steps, model.context)
  x, tolerance = some(DataSpec((num_steps,), 5)), 1e-4 if case in cases_of("recurrent") else 1e-5
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@each
def test_every_parameter_moves(case):
  model = sequence_model(case, LONGER, dropout=0.1)
  params, carry = jax.jit(model.init)(KEY, {"x": some(LONGER)})
  moved = train(model, params, carry, 2)
  for path, before in jax.tree_util.tree_leaves_with_path(params):
    after, name = functools.reduce(lambda tree, key: tree[key.key], path, moved), jax.tree_util.keystr(path)
    changed = np.asarray(before) != np.asarray(after)
    if "table" in name or "positions" in name:
      assert changed.any(axis=1).all(), f"{name} has rows that never move"
    else:
      assert changed.mean() > (0.8 if case in cases_of("wavenet") else 0.9), f"{name} does not move"


@pytest.mark.slow
@one_of_each_network
def test_dropout_is_of_training_alone(case):
  model, params, carry = build(case, LONGER)
  noisy, x = sequence_model(case, LONGER, dropout=0.5), some(LONGER)
  loss = jax.jit(lambda key: noisy.loss(params, carry, {"x": x}, key, jnp.int32(0)).loss)
  assert loss(jax.random.key(0)) != loss(jax.random.key(1))
  np.testing.assert_array_equal(log_probs(noisy, params, carry, x), log_probs(model, params, carry, x))


@functools.partial(jax.jit, static_argnums=0)
def score(model, params, x, length):
  return model.log_likelihood(params, {}, {"x": x, "length": length}, KEY)


@pytest.mark.fast_cases("gru")
@pytest.mark.parametrize("case", [*cases_of("recurrent"), "two_taps", "three_taps"])
def test_padding_never_changes_a_likelihood(case):
  model, params, _ = build(case, LONGER)
  x, length = np.asarray(some(LONGER, 30)), np.random.default_rng(1).integers(1, 13, 30)
  first = score(model, params, x, length)
  np.testing.assert_array_equal(first.num_dims, length)
  for other in (0, 4, 99, -1):
    padded = np.where(np.arange(12) < length[:, None], x, other)
    np.testing.assert_array_equal(score(model, params, padded, length).nats, first.nats)
  for size in (4, 40):  # examples of another size hold the same sequences
    rows = length <= size
    cut = np.pad(x, ((0, 0), (0, 28)))[rows, :size]
    out = score(sequence_model(case, DataSpec((size,), 5)), params, cut, length[rows])
    np.testing.assert_allclose(out.nats, np.asarray(first.nats)[rows], rtol=1e-5)


@pytest.mark.fast_cases("gru", "three_taps")
@each
def test_cached_samples_are_those_of_the_naive_path(case):
  assert_samples_are_the_naive_ones(*build(case, LONGER))


@pytest.mark.fast_cases("lstm")
@each
def test_generation_is_that_of_the_naive_path(case):
  """Of any length where the network has no limit; a prompt's padding never matters."""
  model, params, _ = build(case, LONGER)
  assert isinstance(model, HasPrefill) and model.context == (12 if case in cases_of("transformer") else None)
  lengths, steps = ([16, 9, 11], 30) if model.context is None else ([5, 2, 3], 12)
  prompt = np.pad(some(DataSpec((lengths[0],), 5), 3), ((0, 0), (0, 2)))
  keys = jax.random.split(jax.random.key(8), 3)
  out = model.generate(params, keys, prompt=prompt, prompt_length=np.array(lengths), max_length=steps,
                       with_log_probs=True)
  for row, length in enumerate(lengths):
    x = jnp.zeros((1, steps), jnp.int32).at[0, :length].set(prompt[row, :length])
    for index in range(length, steps):
      logits = in_one_pass(model, params, x)[:, index]
      x = x.at[:, index].set(jax.random.categorical(jax.random.fold_in(keys[row], index), logits[0]))
    np.testing.assert_array_equal(out.tokens[row], x[0])
    scores = token_log_prob(in_one_pass(model, params, x), x)[0]
    np.testing.assert_allclose(out.log_probs[row], np.where(np.arange(steps) < length, 0, scores), rtol=1e-3, atol=1e-4)
  alone = model.generate(params, keys[1:2], prompt=prompt[1:2, :lengths[1]], max_length=steps)
  np.testing.assert_array_equal(alone.tokens[0], out.tokens[1])


@pytest.mark.fast_cases("two_taps")
@pytest.mark.parametrize("case", ["learned", "two_taps"])
def test_images_are_sequences_in_raster_order(case):
  (model, params, carry), x = build(case, DataSpec((2, 3, 2), 5)), some(LONGER)
  flat = sequence_model(case, LONGER)
  np.testing.assert_allclose(log_probs(model, params, carry, x.reshape(-1, 2, 3, 2)),
                             log_probs(flat, params, carry, x), rtol=1e-6)
  assert jax.eval_shape(lambda: model.sample(params, carry, KEY, 3).x).shape == (3, 2, 3, 2)


@pytest.mark.parametrize(("network", "fields", "message"), [
    ("recurrent", {"cell": "gry"}, "cell is 'gry'; did you mean 'gru'"),
    ("recurrent", {"embedding_width": -1}, "embedding_width is -1"),
    ("recurrent", {"embedding_width": 8, "width": 16, "tie_embeddings": True},
     "embedding_width is 8; with tie_embeddings .* 16"),
    ("transformer", {"width": 10, "num_heads": 4}, "width is 10; it must be a positive multiple of num_heads, 4"),
    ("transformer", {"width": 6, "num_heads": 2, "positions": "rotary"}, "width / num_heads is 3; .* even"),
    ("transformer", {"positions": "rotari"}, "did you mean 'rotary'"),
    ("wavenet", {"kernel_size": 1}, "kernel_size is 1; it must be at least 2"),
    ("wavenet", {"num_layers": 5},
     "whose last reaches 16 tokens back, but examples have 12; take num_layers of at most 4"),
    ("wavenet", {"num_layers": 1, "kernel_size": 20}, "reaches 19 tokens back.* take a smaller kernel_size"),
    *((network, fields, message) for network in ("recurrent", "transformer", "wavenet") for fields, message in (
        ({"num_layers": 0}, "num_layers is 0"),
        ({"dropout": 1.0}, r"network.dropout is 1.0; it must be at least 0 and below 1"))),
])
def test_fields_that_cannot_be(network, fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model(network, LONGER, **fields)
