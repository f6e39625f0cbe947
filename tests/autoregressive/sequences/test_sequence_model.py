"""Sequence models, on a network that can be checked by hand, a table of bigrams; and the configs of all of them."""

import dataclasses
import importlib
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, log_probs, states_of

from gdm.autoregressive.sequences.embedding import Embedding
from gdm.autoregressive.sequences.sequence_model import SequenceModel, SequenceNetwork
from gdm.autoregressive.token_model import token_log_prob
from gdm.dataspec import DataSpec
from gdm.distributions import categorical
from gdm.errors import ConfigError, DataError, SpecError
from gdm.likelihood import Kind
from gdm.model import HasComplete, HasConditionals, HasLogLikelihood, HasPrefill, HasSample, Mean, Model
from gdm.networks.from_data import is_from_data
from gdm.runs import registry

KEY = jax.random.key(0)
SPEC = DataSpec((4,), 3)


class Bigram(SequenceNetwork):
  """The smallest network: logits are the previous token's vector."""

  has_limit = True

  @nn.compact
  def __call__(self, previous, key=None):
    return Embedding(self.levels, self.levels, 1.0)(previous)

  def init_cache(self, num, dtype):
    return ()

  def step(self, cache, previous, index):
    return self(previous[:, None])[:, 0], cache

  @nn.nowrap
  def prefill(self, variables, cache, previous, num):
    return cache


class UnlimitedBigram(Bigram):
  has_limit = False


def build(spec=SPEC, network=None):
  model = SequenceModel(spec, network or Bigram())
  params, carry = model.init(KEY, {"x": np.zeros((2, *spec.event), np.uint8)})
  return model, params, carry


def table_of(params):
  return np.asarray(jax.nn.log_softmax(params["model"]["Embedding_0"]["table"]))


def test_is_a_model_of_known_capabilities():
  model, *_ = build()
  for protocol in (Model, HasLogLikelihood, HasSample, HasComplete, HasConditionals, HasPrefill):
    assert isinstance(model, protocol)
  with pytest.raises(SpecError, match="Bigram needs discrete data"):
    SequenceModel(DataSpec((4,), None), Bigram())


@pytest.mark.slow
def test_log_likelihood_is_the_sum_over_pairs():
  model, params, carry = build()
  table, x = table_of(params), states_of(SPEC)
  expected = table[3, x[:, 0]] + sum(table[x[:, t], x[:, t + 1]] for t in range(3))
  np.testing.assert_allclose(log_probs(model, params, carry, x), expected, rtol=1e-5)
  out = model.log_likelihood(params, carry, {"x": jnp.asarray(x)}, KEY)
  assert out.kind is Kind.EXACT and (np.asarray(out.num_dims) == 4).all()


@pytest.mark.fast_cases("spec1")
@pytest.mark.parametrize("spec", [SPEC, DataSpec((2, 2, 1), 3)])
def test_sums_to_one_and_samples_match(spec):
  model, params, carry = build(spec)
  assert_sums_to_one(model, params, carry)
  assert_samples_match(model, params, carry, jax.random.key(2))


def test_completions_match_the_enumerated_conditionals():
  model, params, carry = build(DataSpec((2, 2, 1), 3))
  known = np.array([True, True, False, False]).reshape(2, 2, 1)
  x = np.array([2, 1, 0, 0]).reshape(2, 2, 1)
  assert_completions_match(model, params, carry, jax.random.key(3), x, known, 5000)
  with pytest.raises(SpecError, match="position 3 is known, but position 2 is not"):
    model.complete(params, carry, KEY, np.zeros((1, 2, 2, 1), int), np.array([1, 1, 0, 1], bool).reshape(2, 2, 1))


@pytest.mark.slow
def test_padding_never_changes_a_likelihood():
  model, params, carry = build(DataSpec((6,), 3))
  rng = np.random.default_rng(0)
  x, length = rng.integers(0, 3, (50, 6)), rng.integers(1, 7, 50)
  padding = np.arange(6) >= length[:, None]

  def score(model, x, length=length):
    return model.log_likelihood(params, carry, {"x": jnp.asarray(x), "length": jnp.asarray(length)}, KEY)

  first = score(model, x)
  np.testing.assert_array_equal(first.num_dims, length)
  for other in (0, 2, 99, -1):  # whatever padding is, even no token at all
    np.testing.assert_array_equal(score(model, np.where(padding, other, x)).nats, first.nats)
  longer = score(SequenceModel(DataSpec((9,), 3), Bigram()), np.pad(x, ((0, 0), (0, 3))))
  np.testing.assert_allclose(longer.nats, first.nats, rtol=1e-6)
  for row in range(5):  # and an example cut to its length is the same example
    alone = SequenceModel(DataSpec((int(length[row]),), 3), Bigram()).log_likelihood(
        params, carry, {"x": jnp.asarray(x[row:row + 1, :length[row]])}, KEY)
    np.testing.assert_allclose(alone.nats[0], first.nats[row], rtol=1e-6)


@pytest.mark.slow
def test_probabilities_of_each_length_sum_to_one():
  model, params, carry = build()
  for length in range(1, 5):
    x = np.pad(states_of(DataSpec((length,), 3)), ((0, 0), (0, 4 - length)))
    batch = {"x": jnp.asarray(x), "length": jnp.full(len(x), length)}
    nats = model.log_likelihood(params, carry, batch, KEY).nats
    np.testing.assert_allclose(np.exp(np.asarray(nats, np.float64)).sum(), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_metrics_merge_to_those_of_all_tokens():
  model, params, carry = build()
  x, length = np.array([[0, 1, 2, 1], [2, 2, 0, 0], [1, 0, 0, 0]]), np.array([4, 3, 1])
  whole = model.loss(params, carry, {"x": jnp.asarray(x), "length": jnp.asarray(length)}, KEY, jnp.int32(0))
  parts = [model.loss(params, carry, {"x": jnp.asarray(x[a:b]), "length": jnp.asarray(length[a:b])}, KEY,
                      jnp.int32(0)).metrics for a, b in ((0, 1), (1, 3))]
  merged = jax.tree.map(Mean.merge, *parts, is_leaf=lambda leaf: isinstance(leaf, Mean))
  nats = np.asarray(model.log_likelihood(params, carry, {"x": jnp.asarray(x), "length": jnp.asarray(length)}, KEY).nats)
  for metrics in (whole.metrics, merged):
    np.testing.assert_allclose(metrics["nll"].value, -nats.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["nats_per_token"].value, -nats.sum() / 8, rtol=1e-5)
    np.testing.assert_allclose(metrics["bits_per_dim"].value, -nats.sum() / 8 / math.log(2), rtol=1e-5)
  np.testing.assert_allclose(whole.loss, -nats.mean() / 4, rtol=1e-5)


@pytest.mark.slow
def test_score_equals_the_categorical_distributions():
  logits = 30.0 * jax.random.normal(KEY, (50, 7))
  x = jax.random.randint(jax.random.key(1), (50,), 0, 7)
  np.testing.assert_allclose(token_log_prob(logits, x), categorical.log_prob(logits, x), rtol=1e-5, atol=1e-5)
  gradient = jax.grad(lambda logits: token_log_prob(logits, x).sum())(logits)
  np.testing.assert_allclose(gradient, jax.nn.one_hot(x, 7) - jax.nn.softmax(logits), atol=1e-5)
  assert np.isnan(token_log_prob(logits[:2], jnp.array([7, -1]))).all()


def test_temperature_sharpens_samples():
  model, params, carry = build()
  first = np.asarray(model.sample(params, carry, KEY, 200, temperature=1e-4).x)
  assert (first == np.asarray(model.sample(params, carry, jax.random.key(5), 200, top_k=1).x)).all()
  with pytest.raises(ConfigError, match=r"temperature is 0.0"):
    model.sample(params, carry, KEY, 2, temperature=0.0)
  with pytest.raises(SpecError, match="condition must be None"):
    model.sample(params, carry, KEY, 2, condition=jnp.zeros(2))


def test_generation_from_nothing_has_the_models_distribution():
  model, params, _ = build(DataSpec((2,), 3))
  tokens = np.asarray(model.generate(params, KEY, num=20_000).tokens)
  shares = np.bincount(tokens[:, 0] * 3 + tokens[:, 1], minlength=9) / len(tokens)
  np.testing.assert_allclose(shares, np.exp(log_probs(model, params, {}, states_of(model.spec))), atol=0.015)


def test_generation_goes_on_where_there_is_no_limit():
  model, params, _ = build(network=UnlimitedBigram())
  assert model.generate(params, KEY, num=2, max_length=11).tokens.shape == (2, 11)
  with pytest.raises(ConfigError, match="max_length is 11, but the context is 4"):
    build()[0].generate(params, KEY, num=2, max_length=11)


def test_a_prompt_may_be_padded_beyond_the_context():
  model, params, _ = build()
  prompt = np.array([[1, 2, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]])
  out = model.generate(params, KEY, prompt=prompt, prompt_length=np.array([2, 1]))
  np.testing.assert_array_equal(out.tokens[0, :2], [1, 2])
  assert out.tokens.shape == (2, 4)


def test_errors_of_generation():
  model, params, _ = build()
  prompt = np.array([[1, 2]])
  for options, message in [({}, "num is None and prompt is None; give one of the two"),
                           ({"num": 1, "prompt": prompt}, "num is 1 and prompt is not None"),
                           ({"num": 0}, "num is 0; at least one"),
                           ({"num": 1, "eos": 3}, "eos is 3"), ({"num": 1, "pad": -1}, "pad is -1"),
                           ({"num": 1, "top_p": 2.0}, "top_p is 2.0"),
                           ({"num": 1, "num_alternatives": 4}, "num_alternatives is 4"),
                           ({"prompt": prompt, "max_length": 1}, "max_length is 1")]:
    with pytest.raises(ConfigError, match=message):
      model.generate(params, KEY, **options)
  with pytest.raises(DataError, match=r"prompt\[0, 0\] is 7"):
    model.generate(params, KEY, prompt=np.array([[7]]))
  with pytest.raises(DataError, match=r"prompt_length\[0\] is 0"):
    model.generate(params, KEY, prompt=prompt, prompt_length=np.array([0]))


@pytest.mark.parametrize(("name", "variant"), [
    *itertools.product(("recurrent", "transformer", "wavenet"), ("digits", "shakespeare", "text")),
    ("recurrent", "shakespeare_long"), ("wavenet", "audio")])
def test_config_names_all_fields(name, variant):
  config = importlib.import_module(f"configs.autoregressive.{name}")
  settings = config.get_config(variant).model.to_dict()
  assert settings["name"] == name
  model = registry.build_model(settings, DataSpec((1024,), 5))
  fields = {field.name for field in dataclasses.fields(model.network) if not is_from_data(field)}
  assert {*settings["network"]} == fields - {"name", "parent"}
  with pytest.raises(ConfigError, match="did you mean 'shakespeare'"):
    config.get_config("shakespear")
