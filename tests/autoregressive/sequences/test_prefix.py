"""Sequences given tokens: a distribution for each prefix, the same by steps, and prefixes withheld in training."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.autoregressive.sequences.recurrent import Recurrent
from gdm.autoregressive.sequences.sequence_model import SequenceModel
from gdm.autoregressive.sequences.transformer import Transformer
from gdm.autoregressive.sequences.wavenet import WaveNet
from gdm.batches import given
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError

SPEC = DataSpec((3,), 3, prefix_steps=2, prefix_levels=4)
ALL = np.array(list(itertools.product(range(3), repeat=3)), np.int32)
NETWORKS = {"transformer": Transformer(1, 2, 8), "recurrent": Recurrent(num_layers=1, width=8),
            "wavenet": WaveNet(num_layers=2, num_stacks=1)}
KEY = jax.random.key(0)


def made(name, **fields):
  model = SequenceModel(SPEC, NETWORKS[name], **fields)
  params, carry = model.init(KEY, {"x": jnp.zeros((1, 3), jnp.int32), "prefix": jnp.zeros((1, 2), jnp.int32)})
  keys = iter(jax.random.split(jax.random.key(1), 100))
  return model, jax.tree.map(lambda leaf: 0.4 * jax.random.normal(next(keys), leaf.shape), params), carry


def nats(model, params, carry, prefix):
  batch = {"x": jnp.asarray(ALL), "prefix": jnp.tile(jnp.asarray(prefix), (len(ALL), 1))}
  return np.asarray(model.log_likelihood(params, carry, batch, KEY).nats, np.float64)


def losses_of(model, params, carry, batch):
  """Mean training loss of an example, by 60 keys."""
  loss = jax.vmap(lambda key: model.loss(params, carry, batch, key, jnp.zeros(())).metrics["nll"].value)
  return np.asarray(jax.jit(loss)(jax.random.split(KEY, 60)))


@pytest.mark.fast_cases("transformer")
@pytest.mark.parametrize("name", NETWORKS)
def test_it_sums_to_one_given_each_prefix_and_differs_by_it(name):
  model, params, carry = made(name)
  one, other = nats(model, params, carry, [1, 2]), nats(model, params, carry, [3, 2])
  np.testing.assert_allclose([np.exp(one).sum(), np.exp(other).sum()], 1.0, atol=1e-5)
  assert np.abs(one - other).max() > 1e-3  # both of its tokens are read
  assert np.abs(one - nats(model, params, carry, [1, 3])).max() > 1e-3
  assert given(model) == model.given == ("prefix",)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_and_a_prompt_after_the_prefix_agree_with_one_pass(name):
  model, params, carry = made(name)
  prefix = jnp.tile(jnp.array([1, 2]), (len(ALL), 1))
  whole = nats(model, params, carry, [1, 2])

  def by_steps(cache, first):
    found = 0.0
    for index in range(first, 3):
      cache, logits = model.conditional_step(params, cache, jnp.asarray(ALL[:, index - 1]), jnp.asarray(index))
      found = found + jax.nn.log_softmax(logits)[np.arange(len(ALL)), ALL[:, index]]
    return np.asarray(found)

  cache = model.init_cache(params, len(ALL), prefix)
  np.testing.assert_allclose(by_steps(cache, 0), whole, atol=1e-3)
  # The last token alone, after a prompt of two that is taken in one pass.
  prompted = model.prefill(params, cache, jnp.asarray(ALL[:, :2]), jnp.asarray(2))
  last = jax.nn.log_softmax(model.logits(params, jnp.asarray(ALL), prefix=prefix))[np.arange(len(ALL)), 2, ALL[:, 2]]
  np.testing.assert_allclose(by_steps(prompted, 2), last, atol=1e-3)


@pytest.mark.slow
def test_samples_follow_the_distribution_given_the_prefix():
  model, params, carry = made("transformer")
  drawn = np.asarray(model.sample(params, carry, KEY, 8000, {"prefix": np.array([1, 2])}).x)
  shares = np.bincount(drawn @ [9, 3, 1], minlength=27) / 8000
  np.testing.assert_allclose(shares, np.exp(nats(model, params, carry, [1, 2])), atol=0.02)


def test_a_prefix_withheld_in_training_makes_a_model_without_it():
  model, params, carry = made("recurrent", prefix_dropout=0.5)
  batch = {"x": jnp.asarray(ALL[:8]), "prefix": jnp.full((8, 2), 3)}
  losses = losses_of(model, params, carry, batch)
  with_it, without = (-nats(model, params, carry, prefix)[:8].mean() for prefix in ([3, 3], [0, 0]))
  assert abs(losses.mean() - (with_it + without) / 2) < 4 * losses.std() / 60**0.5
  assert model.prefix_optional and not made("recurrent")[0].prefix_optional
  np.testing.assert_array_equal(model.sample(params, carry, KEY, 4).x,
                                model.sample(params, carry, KEY, 4, {"prefix": np.zeros(2, np.int32)}).x)


def test_tokens_withheld_one_by_one():
  model, params, carry = made("recurrent", prefix_token_dropout=0.5)
  batch = {"x": jnp.asarray(ALL[:8]), "prefix": jnp.tile(jnp.array([3, 1]), (8, 1))}
  losses = losses_of(model, params, carry, batch)
  each = [-nats(model, params, carry, prefix)[:8].mean() for prefix in ([3, 1], [3, 0], [0, 1], [0, 0])]
  assert abs(losses.mean() - np.mean(each)) < 4 * losses.std() / 60**0.5


def test_prefixes_that_cannot_be_used():
  model, params, carry = made("transformer")
  with pytest.raises(SpecError, match=r"conditional on a prefix; condition must be prefixes \[4, 2\]"):
    model.sample(params, carry, KEY, 4)
  with pytest.raises(SpecError, match=r"the prefix has token 4; tokens must be in \[0, 4\)"):
    model.sample(params, carry, KEY, 4, {"prefix": np.array([1, 4])})
  with pytest.raises(SpecError, match=r"the prefix has shape \(3,\); it must be \[4, 2\], or \[2\] for all"):
    model.sample(params, carry, KEY, 4, {"prefix": np.array([1, 1, 1])})
  with pytest.raises(SpecError, match="the batch has no 'prefix'"):
    model.log_likelihood(params, carry, {"x": jnp.asarray(ALL)}, KEY)
  with pytest.raises(SpecError, match="steps need it, which only `sample` takes"):
    model.init_cache(params, 4)
  with pytest.raises(ConfigError, match=r"prefix_dropout is 0.5, but the data have no prefix"):
    SequenceModel(DataSpec((3,), 3), NETWORKS["recurrent"], prefix_dropout=0.5)
  with pytest.raises(SpecError, match="a prefix has at least 1 step and 2 levels"):
    DataSpec((3,), 3, prefix_steps=2)
  assert np.isnan(nats(model, params, carry, [1, 7])).all()
