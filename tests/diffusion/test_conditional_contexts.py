"""Diffusion conditional on real vectors, alone and beside labels."""

import jax
import numpy as np
import optax
import pytest

from gdm.dataspec import DataSpec
from gdm.diffusion import flow_matching
from gdm.errors import ConfigError, SpecError
from gdm.training import Iterated, fit, init_state, make_train_step

KEY = jax.random.key(0)


def batches(first):
  """x is the context plus noise of 0.1, moved by 3 under label 1."""
  for number in range(first, 10**9):
    rng = np.random.default_rng(number)
    context, y = rng.normal(size=(256, 1)), rng.integers(0, 2, 256)
    x = context + 3.0 * y[:, None] + 0.1 * rng.normal(size=(256, 1))
    yield {"x": x.astype(np.float32), "context": context.astype(np.float32), "y": y.astype(np.int32)}


@pytest.fixture(scope="module")
def trained():
  model = flow_matching(DataSpec((1,), None, 2, context_dims=1), class_conditional=True, label_dropout=0.1)
  state = init_state(model, {"model": optax.adam(3e-3)}, KEY, next(batches(0)))
  state, _ = fit(make_train_step(model, {"model": optax.adam(3e-3)}), state, Iterated(batches), key=KEY, num_steps=400)
  return model, state.params, state.carry


@pytest.mark.slow
def test_samples_follow_context_and_label(trained):
  model, params, carry = trained
  context = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
  for label in (0, 1):
    x = np.asarray(model.sample(params, carry, KEY, 200, {"context": context, "y": np.full(200, label)}).x)
    np.testing.assert_allclose(x.mean(), 3.0 * label, atol=0.2)
    assert np.corrcoef(x[:, 0], context[:, 0])[0, 1] > 0.9
  without = np.asarray(model.sample(params, carry, KEY, 200, {"context": context}).x)
  assert 0.5 < without.mean() < 2.5  # of both labels


@pytest.mark.slow
def test_what_is_missing_is_told(trained):
  model, params, carry = trained
  with pytest.raises(SpecError, match="condition has no 'context'"):
    model.sample(params, carry, KEY, 2, {"y": np.zeros(2, int)})
  with pytest.raises(SpecError, match=r"context has shape|broadcast"):
    model.log_likelihood(params, carry, {**next(batches(0)), "context": np.zeros((256, 3), np.float32)}, KEY)
  with pytest.raises(ConfigError, match="guidance is 2"):
    model.sample(params, carry, KEY, 2, {"context": np.zeros((2, 1), np.float32)}, guidance=2.0)
  found = model.log_likelihood(params, carry, {name: rows[:4] for name, rows in next(batches(0)).items()}, KEY)
  assert found.given == ("context", "y")
