"""D3PM: its matrices, its exact posterior, its bound and its samples against products of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_frequencies_match

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion import GaussianTransitions, Perceptron, UniformTransitions, d3pm
from gdm.discrete_diffusion.schedules import CosineSchedule, LinearSchedule
from gdm.errors import ConfigError, SpecError

LEVELS, STEPS = 4, 5
TRANSITIONS = {"uniform": UniformTransitions(STEPS, CosineSchedule()), "gaussian": GaussianTransitions(STEPS)}
KEY = jax.random.key(0)


def small(name, dims=1):
  model = d3pm(DataSpec((dims,), LEVELS), transitions=TRANSITIONS[name], network=Perceptron(hidden=(8,)))
  params, _ = model.init(KEY, {})
  rng = np.random.default_rng(0)
  return model, jax.tree.map(lambda leaf: leaf + rng.normal(0.0, 0.5, leaf.shape).astype(np.float32), params)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_matrices_are_doubly_stochastic_and_multiply_up(name):
  step, total = TRANSITIONS[name].tables(LEVELS)
  for axis in (1, 2):
    np.testing.assert_allclose(step.sum(axis=axis), 1.0, rtol=1e-6)
  product = np.eye(LEVELS)
  np.testing.assert_array_equal(total[0], product)
  for matrix, whole in zip(step, total[1:], strict=True):
    product = product @ matrix
    np.testing.assert_allclose(whole, product, atol=1e-6)


def test_uniform_noise_ends_at_uniform_levels_exactly_and_gaussian_noise_nearly():
  x = jnp.arange(LEVELS)[:, None]
  np.testing.assert_allclose(small("uniform")[0].prior_loss(x), 0.0, atol=1e-6)
  prior = np.asarray(small("gaussian")[0].prior_loss(x))
  last = TRANSITIONS["gaussian"].tables(LEVELS).total[-1]
  np.testing.assert_allclose(prior, (last * np.log(last * LEVELS)).sum(axis=1), atol=1e-6)
  assert np.all(prior > 0.0) and prior.max() < 0.1


@pytest.mark.parametrize("name", TRANSITIONS)
def test_the_step_back_given_the_data_is_bayes_rule(name):
  model, _ = small(name)
  step, total = TRANSITIONS[name].tables(LEVELS)
  for t in range(1, STEPS + 1):
    for data in range(LEVELS):
      for noised in range(LEVELS):
        if total[t][data, noised] < 1e-9:
          continue
        joint = total[t - 1][data] * step[t - 1][:, noised]
        found = model.step_back(jax.nn.one_hot(jnp.array([[data]]), LEVELS), jnp.array([[noised]]), jnp.array([t]))
        np.testing.assert_allclose(np.exp(found[0, 0]), joint / joint.sum(), atol=1e-5)


def by_matrices(model, params):
  """log p of each level, one dimension, and the bound of each, by sums over all noised levels."""
  step, total = model.transitions.tables(LEVELS)
  p, terms = np.full(LEVELS, 1.0 / LEVELS), np.asarray(model.prior_loss(jnp.arange(LEVELS)[:, None]), np.float64)
  x = jnp.arange(LEVELS)[:, None]
  for t in range(STEPS, 0, -1):
    steps = jnp.full(LEVELS, t)
    back = np.exp(model.step_back(jnp.exp(model.log_data_probs(params, x, steps)), x, steps)[:, 0], dtype=np.float64)
    p = p @ back
    for data in range(LEVELS):
      joint = total[t - 1][data][None] * step[t - 1].T  # [x_t, x_{t-1}]
      seen = joint.sum(axis=1)
      posterior = joint / np.maximum(seen, 1e-30)[:, None]
      with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(posterior > 0, posterior * np.log(posterior / back), 0.0).sum(axis=1)
      terms[data] += (seen * np.where(seen > 0, divergence, 0.0)).sum()
  return np.log(p), -terms


@pytest.mark.parametrize("name", TRANSITIONS)
def test_the_bound_is_the_sum_of_all_steps_and_below_the_likelihood(name):
  model, params = small(name)
  log_p, bound = by_matrices(model, params)
  np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
  assert np.all(bound <= log_p + 1e-5)
  x = np.repeat(np.arange(LEVELS), 2000)[:, None]
  found = model.log_likelihood(params, {}, {"x": x}, KEY, STEPS)
  nats = np.asarray(found.nats, np.float64).reshape(LEVELS, -1)
  assert np.all(np.abs(nats.mean(axis=1) - bound) < 5 * nats.std(axis=1) / np.sqrt(2000) + 1e-4)
  np.testing.assert_allclose(-sum(found.details.values()), found.nats, rtol=1e-5)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_samples_come_from_the_model(name):
  model, params = small(name)
  drawn = model.sample(params, {}, KEY, 20_000)
  assert drawn.info["nfe"] == STEPS
  assert_frequencies_match(drawn.x, np.arange(LEVELS)[:, None], np.exp(by_matrices(model, params)[0]))


def test_what_cannot_be_is_refused():
  spec = DataSpec((3,), 17)
  for fields, words in (({"transitions": "absorbing"}, "transitions is 'absorbing'"),
                        ({"num_noise_steps": 0}, "num_noise_steps is 0"), ({"auxiliary": -1.0}, "auxiliary is -1.0")):
    with pytest.raises(ConfigError, match=words):
      d3pm(spec, **fields)
  with pytest.raises(ConfigError, match="at most 1024 steps fit"):
    d3pm(DataSpec((3,), 256), num_noise_steps=2000)
  with pytest.raises(SpecError, match="needs discrete data"):
    d3pm(DataSpec((3,), None))
  with pytest.raises(SpecError, match=r"D3PM takes every example whole"):
    d3pm(DataSpec((3,), 17, has_lengths=True))
  assert d3pm(spec, schedule=LinearSchedule()).transitions == UniformTransitions(100, LinearSchedule())
