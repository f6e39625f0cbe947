"""The transformer: exact, causal, and the same whether in one pass or step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, states_of
from helpers.token_models import (
  assert_samples_are_the_naive_ones,
  by_steps,
  in_one_pass,
  moved_from_start,
  some,
  token_model,
  train,
)

from gdm.autoregressive.sequences.attention import causal_attention
from gdm.autoregressive.sequences.positions import rotary
from gdm.autoregressive.token_model import token_log_prob
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import HasPrefill

KEY = jax.random.key(0)
SMALL = DataSpec((3,), 3)
LONGER = DataSpec((12,), 5)
FIELDS = {
    "learned": {"num_layers": 2, "num_heads": 2, "width": 8, "mlp_ratio": 2},
    "rotary": {"num_layers": 2, "num_heads": 2, "width": 8, "positions": "rotary", "tie_embeddings": False},
}
each = pytest.mark.parametrize("name", FIELDS)


@functools.lru_cache
def build(name, spec=SMALL, scale=0.5):
  model = token_model("transformer", spec, **FIELDS[name])
  return model, *moved_from_start(model, scale)


@functools.partial(jax.jit, static_argnums=0)
def nats(model, params, x):
  return model.log_likelihood(params, {}, {"x": x}, KEY).nats


@pytest.mark.fast_cases("rotary")
@each
def test_sums_to_one_and_samples_match(name):
  assert_sums_to_one(*build(name))
  assert_samples_match(*build(name), jax.random.key(2), num=10_000)


@pytest.mark.slow
def test_each_conditional_sums_to_one_and_their_product_is_the_joint():
  model, params, _ = build("learned")
  states = jnp.asarray(states_of(SMALL))
  steps = np.asarray(jax.nn.log_softmax(by_steps(model, params, states)))
  np.testing.assert_allclose(np.exp(steps).sum(-1), 1.0, rtol=1e-5)
  joint = np.take_along_axis(steps, np.asarray(states)[..., None], -1)[..., 0].sum(-1)
  np.testing.assert_allclose(joint, nats(model, params, states), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@each
def test_completions_match_the_enumerated_conditionals(name):
  assert_completions_match(*build(name), jax.random.key(3), np.array([2, 0, 0]), np.array([True, False, False]), 5000)


@pytest.mark.slow
@each
def test_steps_give_the_logits_of_one_pass(name):
  model, params, _ = build(name, LONGER)
  x = some(LONGER)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-5, atol=1e-5)


def jacobian(model, params, x):
  """How strongly the logits at each position [output] depend on the vector of each input position [input]."""
  variables, network = {"params": params["model"]}, model.network

  @jax.jit
  @jax.jacrev
  def dependence(vectors):
    return network.apply(variables, vectors, method=lambda net, x: net.logits(net.run(x)[0]))[0]

  vectors = network.apply(variables, model.previous(x), jnp.arange(model.num_steps), method="embed")
  return np.abs(np.asarray(dependence(vectors))).max(axis=(1, 2, 4))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_steps"), [("learned", 0), ("rotary", 0), ("rotary", 5)])
def test_logits_depend_on_the_tokens_before_and_on_nothing_else(name, num_steps):
  model, params, carry = build(name, LONGER)
  params = train(model, params, carry, num_steps)
  steps = model.num_steps
  np.testing.assert_array_equal(jacobian(model, params, some(LONGER, 1)) > 0, np.tri(steps, dtype=bool))


@pytest.mark.slow
@each
def test_every_parameter_moves(name):
  model = token_model("transformer", LONGER, dropout=0.1, **FIELDS[name])
  params, carry = jax.jit(model.init)(KEY, {"x": some(LONGER)})
  moved = train(model, params, carry, 2)
  for path, before in jax.tree_util.tree_leaves_with_path(params):
    after = functools.reduce(lambda tree, key: tree[key.key], path, moved)
    if "table" in jax.tree_util.keystr(path) or "positions" in jax.tree_util.keystr(path):
      assert (np.asarray(before) != np.asarray(after)).any(axis=1).all(), f"{path} has rows that never move"
    else:
      assert (np.asarray(before) != np.asarray(after)).mean() > 0.9, f"{path} does not move"


@pytest.mark.slow
def test_dropout_is_of_training_alone():
  model, params, carry = build("learned", LONGER)
  noisy = token_model("transformer", LONGER, dropout=0.5, **FIELDS["learned"])
  batch = {"x": some(LONGER)}
  loss = jax.jit(lambda key: noisy.loss(params, carry, batch, key, jnp.int32(0)).loss)
  assert loss(jax.random.key(0)) != loss(jax.random.key(1))
  np.testing.assert_array_equal(nats(noisy, params, batch["x"]), nats(model, params, batch["x"]))


@pytest.mark.slow
@each
def test_cached_samples_are_those_of_the_naive_path(name):
  assert_samples_are_the_naive_ones(*build(name, LONGER))


@pytest.mark.slow
@each
def test_generation_is_that_of_the_naive_path(name):
  model, params, _ = build(name, LONGER)
  assert isinstance(model, HasPrefill)
  prompt, lengths = np.array([[1, 2, 3, 4, 0], [4, 0, 9, 9, 9], [2, 2, 1, 9, 9]]), np.array([5, 2, 3])
  keys = jax.random.split(jax.random.key(8), 3)
  out = model.generate(params, keys, prompt=prompt, prompt_length=lengths, with_log_probs=True)
  for row, length in enumerate(lengths):
    x = jnp.zeros((1, 12), jnp.int32).at[0, :length].set(prompt[row, :length])
    for index in range(length, 12):
      logits = in_one_pass(model, params, x)[:, index]
      x = x.at[:, index].set(jax.random.categorical(jax.random.fold_in(keys[row], index), logits[0]))
    np.testing.assert_array_equal(out.tokens[row], x[0])
    scores = token_log_prob(in_one_pass(model, params, x), x)[0]
    np.testing.assert_allclose(out.log_probs[row], np.where(np.arange(12) < length, 0, scores), rtol=1e-4, atol=1e-5)
    alone = model.generate(params, keys[row:row + 1], prompt=prompt[row:row + 1, :length])
    np.testing.assert_array_equal(alone.tokens[0], out.tokens[row])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "other"])
def test_attention_is_that_of_its_definition(backend, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  q, k, v = jax.random.normal(KEY, (3, 2, 5, 3, 4))
  scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 2.0
  scores = np.where(np.tri(5, dtype=bool), scores, -np.inf)
  weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  np.testing.assert_allclose(causal_attention(q, k, v), np.einsum("bhqk,bkhd->bqhd", weights, v), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_rotary_products_depend_on_the_distance_alone():
  q, k = jax.random.normal(KEY, (2, 1, 1, 1, 8))
  at = jnp.arange(9)
  turned_q, turned_k = (rotary(jnp.broadcast_to(x, (1, 9, 1, 8)), at)[0, :, 0] for x in (q, k))
  products = np.asarray(turned_q @ turned_k.T)
  for distance in range(-8, 9):
    diagonal = np.diagonal(products, distance)
    np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(jnp.linalg.norm(turned_q, axis=1), jnp.linalg.norm(q), rtol=1e-5)


@pytest.mark.slow
def test_images_are_sequences_in_raster_order():
  spec = DataSpec((2, 3, 1), 4)
  model, params, carry = build("learned", spec)
  x = some(spec)
  flat = token_model("transformer", DataSpec((6,), 4), **FIELDS["learned"])
  np.testing.assert_allclose(nats(model, params, x), nats(flat, params, x.reshape(-1, 6)), rtol=1e-6)
  assert jax.eval_shape(lambda: model.sample(params, carry, KEY, 3).x).shape == (3, 2, 3, 1)


@pytest.mark.parametrize(("fields", "message"), [
    ({"num_layers": 0}, "num_layers is 0"),
    ({"width": 10, "num_heads": 4}, "width is 10; it must be a positive multiple of num_heads, 4"),
    ({"width": 6, "num_heads": 2, "positions": "rotary"}, "width / num_heads is 3; .* even"),
    ({"positions": "rotari"}, "did you mean 'rotary'"),
    ({"dropout": 1.0}, r"network.dropout is 1.0; it must be at least 0 and below 1"),
])
def test_fields_that_cannot_be(fields, message):
  with pytest.raises(ConfigError, match=message):
    token_model("transformer", SMALL, **fields)
