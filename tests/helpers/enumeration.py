"""Truths that small spaces can be held to by enumeration: sums, samples, completions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats


class Batches:
  """Arrays served in order, again on every pass; the last batch may be smaller."""

  def __init__(self, x, size=500):
    self.x, self.size = np.asarray(x), size

  def __iter__(self):
    for start in range(0, len(self.x), self.size):
      yield {"x": jnp.asarray(self.x[start:start + self.size])}


def all_states(levels, num_dims):
  """Every point of {0, ..., levels - 1}^num_dims: [levels^num_dims, num_dims] int32, the last dimension fastest."""
  return np.indices((levels,) * num_dims).reshape(num_dims, -1).T.astype(np.int32)


def states_of(spec):
  """`all_states` in the spec's event shape: [states, *event]."""
  return all_states(spec.levels, spec.num_dims).reshape(-1, *spec.event)


def log_probs(model, params, carry, x):
  """The model's nats for x [num, *event], float64; compiled, as evaluation does it."""
  return np.asarray(_scorer(model)(params, carry, jnp.asarray(x)), np.float64)


@functools.lru_cache(maxsize=256)
def _scorer(model):
  return jax.jit(lambda params, carry, x: model.log_likelihood(params, carry, {"x": x}, jax.random.key(0)).nats)


def assert_sums_to_one(model, params, carry, rtol=1e-4):
  """The probabilities of all states of the model's space sum to one."""
  total = np.exp(log_probs(model, params, carry, states_of(model.spec))).sum()
  np.testing.assert_allclose(total, 1.0, rtol=rtol)


def assert_frequencies_match(draws, states, probs, significance=1e-4):
  """Chi-squared: draws [num, ...] come from `probs` over `states`; bins of fewer than five expected are pooled."""
  draws, states = np.asarray(draws).reshape(len(draws), -1), np.asarray(states).reshape(len(states), -1)
  assert np.issubdtype(draws.dtype, np.integer), f"discrete samples must be integers, not {draws.dtype}"
  index = {state.tobytes(): i for i, state in enumerate(states.astype(np.int64))}
  observed = np.bincount([index[draw.tobytes()] for draw in draws.astype(np.int64)], minlength=len(states))
  expected = len(draws) * np.asarray(probs, np.float64) / np.sum(probs)
  rare = expected < 5
  observed = np.append(observed[~rare], observed[rare].sum())
  expected = np.append(expected[~rare], expected[rare].sum())
  if expected[-1] < 5:  # even the pool is too small for the test: leave it out
    observed, expected = observed[:-1], expected[:-1]
    expected = expected * observed.sum() / expected.sum()
  statistic = np.sum(np.square(observed - expected) / expected)
  p_value = scipy.stats.chi2.sf(statistic, len(expected) - 1) if len(expected) > 1 else 1.0
  assert p_value > significance, f"chi-squared {statistic:.1f} over {len(expected)} bins, p = {p_value:.2g}"


def assert_samples_match(model, params, carry, key, num=20_000, **options):
  """Samples have the enumerated probabilities and the event's shape."""
  samples = model.sample(params, carry, key, num, **options).x
  assert samples.shape == (num, *model.spec.event)
  states = states_of(model.spec)
  assert_frequencies_match(samples, states, np.exp(log_probs(model, params, carry, states)))


def assert_completions_match(model, params, carry, key, x, known, num=20_000):
  """Completions of one example x [*event] keep it where known and have the enumerated conditional probabilities."""
  x, known = np.asarray(x), np.asarray(known, bool)
  many = jnp.asarray(np.broadcast_to(x, (num, *x.shape)))
  drawn = np.asarray(model.complete(params, carry, key, many, jnp.asarray(known)).x)
  assert drawn.shape == (num, *model.spec.event)
  np.testing.assert_array_equal(drawn[:, known], np.asarray(many)[:, known])
  states = states_of(model.spec)
  consistent = states[np.all(states[:, known] == x[known], axis=1)]
  assert_frequencies_match(drawn, consistent, np.exp(log_probs(model, params, carry, consistent)))
