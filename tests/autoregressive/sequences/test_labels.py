"""Sequences given labels: a distribution for each label, the same by steps, and errors where labels are missing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_frequencies_match

from gdm.autoregressive.sequences.recurrent import Recurrent
from gdm.autoregressive.sequences.sequence_model import SequenceModel
from gdm.autoregressive.sequences.transformer import Transformer
from gdm.autoregressive.sequences.wavenet import WaveNet
from gdm.dataspec import DataSpec
from gdm.errors import SpecError

SPEC = DataSpec((3,), 3, num_classes=2)
ALL = np.array(list(itertools.product(range(3), repeat=3)), np.int32)
NETWORKS = {"transformer": Transformer(1, 2, 8), "recurrent": Recurrent(num_layers=1, width=8),
            "wavenet": WaveNet(num_layers=2, num_stacks=1)}
KEY = jax.random.key(0)


def made(name, spec=SPEC):
  model = SequenceModel(spec, NETWORKS[name], class_conditional=True)
  params, carry = model.init(KEY, {"x": jnp.zeros((1, 3), jnp.int32)})
  keys = iter(jax.random.split(jax.random.key(1), 100))
  return model, jax.tree.map(lambda leaf: 0.4 * jax.random.normal(next(keys), leaf.shape), params), carry


@pytest.mark.parametrize("name", ["wavenet", *(pytest.param(name, marks=pytest.mark.slow)
                                               for name in ("transformer", "recurrent"))])
def test_it_sums_to_one_given_each_label_and_draws_are_from_it(name):
  model, params, carry = made(name)
  found = [model.log_likelihood(params, carry, {"x": ALL, "y": np.full(27, y)}, KEY) for y in (0, 1)]
  assert found[0].given == ("y",)
  np.testing.assert_allclose([np.exp(np.asarray(each.nats, np.float64)).sum() for each in found], 1.0, rtol=1e-4)
  assert jnp.abs(found[0].nats - found[1].nats).max() > 0.1
  labels = np.arange(20_000) % 2
  x = np.asarray(model.sample(params, carry, KEY, len(labels), labels).x)
  for y in (0, 1):
    assert_frequencies_match(x[labels == y], ALL, np.exp(np.asarray(found[y].nats, np.float64)))


@pytest.mark.slow
def test_a_prefix_and_a_label_go_together():
  spec = DataSpec((3,), 3, num_classes=2, prefix_steps=1, prefix_levels=2)
  model, params, carry = made("transformer", spec)
  assert model.given == ("prefix", "y")
  batch = {"x": ALL, "prefix": np.ones((27, 1), np.int32), "y": np.ones(27, np.int32)}
  probs = np.exp(np.asarray(model.log_likelihood(params, carry, batch, KEY).nats, np.float64))
  np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-4)
  drawn = model.sample(params, carry, KEY, 20_000, {"prefix": np.ones(1, np.int32), "y": 1}).x
  assert_frequencies_match(np.asarray(drawn), ALL, probs)


def test_labels_that_are_missing_or_unknown_are_said():
  model, params, carry = made("wavenet")
  for condition, words in ((None, "condition must be labels"), (2, r"labels must be in \[0, 2\)")):
    with pytest.raises(SpecError, match=words):
      model.sample(params, carry, KEY, 4, condition)
  with pytest.raises(SpecError, match="the batch must have labels"):
    model.log_likelihood(params, carry, {"x": ALL}, KEY)
  with pytest.raises(SpecError, match="steps need labels, which only `sample` takes"):
    model.init_cache(params, 4)
  with pytest.raises(SpecError, match="the data has no labels"):
    SequenceModel(DataSpec((3,), 3), NETWORKS["wavenet"], class_conditional=True)
