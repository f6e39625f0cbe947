"""N-grams: sums to one, Kneser and Ney's equations, prompts and prefixes, lengths, real text."""

import functools
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, log_probs, states_of

from gdm.baselines.kneser_ney import FALLBACK_DISCOUNTS, Counter, discounts, distinct
from gdm.baselines.ngram import NGram
from gdm.data.load import load_dataset
from gdm.data.loader import Passes, eval_batches
from gdm.dataspec import DataSpec
from gdm.errors import DataError, SpecError
from gdm.evaluation.likelihood import evaluate_likelihood

KEY = jax.random.key(0)
SPEC = DataSpec((6,), 3, has_lengths=True)
SHAKESPEARE = Path(__file__).parents[3] / "shared/data/tiny_shakespeare.txt"


def sequences(num=60, seed=0):
  """Sequences of a chain that likes to count up, of different lengths, with anything for padding."""
  rng = np.random.default_rng(seed)
  x = rng.integers(0, 3, (num, 6))
  for place in range(1, 6):
    x[:, place] = np.where(rng.random(num) < 0.7, (x[:, place - 1] + 1) % 3, x[:, place])
  length = rng.integers(1, 7, num)
  return np.where(np.arange(6) < length[:, None], x, 7), length


class Served:
  """Batches of sequences with their lengths."""

  def __init__(self, x, length, size=25):
    self.x, self.length, self.size = x, length, size

  def __iter__(self):
    for start in range(0, len(self.x), self.size):
      part = slice(start, start + self.size)
      yield {"x": self.x[part], "length": self.length[part]}


def fitted(order=3, spec=SPEC, data=None):
  model = NGram(spec, order, capacity=200)
  return model, *model.solve(KEY, Served(*(data or sequences())))


@functools.partial(jax.jit, static_argnums=0)
def score(model, params, carry, batch):
  return model.log_likelihood(params, carry, batch, KEY)


@functools.partial(jax.jit, static_argnums=0)
def step(model, params, cache, previous, index):
  return model.conditional_step(params, cache, previous, index)


def naive(grams, history, token, order, levels, length=None):
  """p(token | history) by the equations, from the list of all n-grams of up to `order` tokens."""
  if length is None:
    length = min(order, len(history) + 1)
  if length == 0:
    return 1.0 / levels
  context = tuple(history[len(history) - length + 1:])
  counts = counts_of(grams, length, order)
  lower = naive(grams, history, token, order, levels, length - 1)
  total = sum(count for (own, _), count in counts.items() if own == context)
  if not total:
    return lower
  taken = discounts(np.array([count for (_, last), count in counts.items() if last != levels], float))
  gamma = sum(taken[min(count, 3)] for (own, _), count in counts.items() if own == context)
  count = counts.get((context, token), 0)
  return (max(count - taken[min(count, 3)], 0) + gamma * lower) / total


def counts_of(grams, length, order):
  """How often each n-gram occurs, or below the highest order after how many different tokens."""
  seen = [gram for gram in grams if len(gram) == length]
  if length == order:
    return {(gram[:-1], gram[-1]): seen.count(gram) for gram in set(seen)}
  longer = {gram for gram in grams if len(gram) == length + 1}
  return {(gram[:-1], gram[-1]): (seen.count(gram) if gram[0] == SPEC.levels else
                                  sum(other[1:] == gram for other in longer)) for gram in set(seen)}


@pytest.mark.fast_cases("2")
@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_are_those_of_the_equations(order):
  x, length = sequences(20)
  model, params, carry = fitted(order, data=(x, length))
  grams = []
  for row, num in zip(x, length, strict=True):
    tokens = (SPEC.levels, *row[:num].tolist())
    for end in range(1, len(tokens)):
      grams += [tokens[begin:end + 1] for begin in range(max(0, end - order + 1), end + 1)]
  states = states_of(DataSpec((4,), 3))[::7]
  expected = [sum(math.log(naive(grams, (3, *state[:place]), state[place], order, 3)) for place in range(4))
              for state in states.tolist()]
  batch = {"x": np.pad(states, ((0, 0), (0, 2))), "length": np.full(len(states), 4)}
  np.testing.assert_allclose(score(model, params, carry, batch).nats, expected, rtol=1e-5)


@pytest.mark.fast_cases("2")
@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_of_each_length_sum_to_one(order):
  model, params, carry = fitted(order)
  states = [states_of(DataSpec((length,), 3)) for length in range(1, 7)]
  x = np.concatenate([np.pad(part, ((0, 0), (0, 6 - part.shape[1])), constant_values=9) for part in states])
  length = np.repeat(np.arange(1, 7), list(map(len, states)))
  found = score(model, params, carry, {"x": x, "length": length})
  np.testing.assert_array_equal(found.num_dims, length)
  sums = np.bincount(length, np.exp(np.asarray(found.nats, np.float64)))[1:]
  np.testing.assert_allclose(sums, 1.0, rtol=1e-5)


def test_before_anything_was_counted_all_tokens_are_alike():
  model = NGram(DataSpec((3,), 5), 4, capacity=10)
  params, carry = model.init(KEY, {"x": np.zeros((1, 3), int)})
  np.testing.assert_allclose(log_probs(model, params, carry, states_of(model.spec)), -3 * math.log(5), rtol=1e-6)
  solved, _ = model.solve(KEY, [{"x": np.array([[4, 4, 4]])}])
  assert jax.tree.map(jnp.shape, solved) == jax.tree.map(jnp.shape, params)  # which checkpoints are restored by
  assert_sums_to_one(model, solved, carry)


def test_batches_do_not_matter_and_masked_examples_do_not_count():
  x, length = sequences()
  model, params, _ = fitted(data=(x, length))
  order = np.random.default_rng(1).permutation(len(x))
  other, _ = model.solve(KEY, Served(x[order], length[order], size=7))
  jax.tree.map(np.testing.assert_array_equal, other, params)
  masked = {"x": np.concatenate([x, x[:9]]), "length": np.concatenate([length, length[:9]]),
            "mask": np.repeat([1.0, 0.0], [len(x), 9])}
  jax.tree.map(np.testing.assert_array_equal, model.solve(KEY, [masked])[0], params)


def test_counts_are_merged_as_they_come(monkeypatch):
  whole = Counter(3, 3)
  whole.add(*sequences())
  monkeypatch.setattr("gdm.baselines.kneser_ney._ROWS_AT_ONCE", 20)
  parts = Counter(3, 3)
  for x, length in zip(*sequences(), strict=True):
    parts.add(x[None], length[None])
  for (grams, counts), (others, found) in zip(whole.ngrams(), parts.ngrams(), strict=True):
    np.testing.assert_array_equal(grams, others)
    np.testing.assert_array_equal(counts, found)


def test_distinct_rows():
  rows, counts = distinct(np.array([[1, 2], [0, 9], [1, 2], [1, 0]]), np.array([1, 2, 3, 4]))
  assert rows.tolist() == [[0, 9], [1, 0], [1, 2]] and counts.tolist() == [2, 4, 4]


def test_discounts_follow_from_how_many_counts_there_are_of_each():
  counts = np.repeat([1.0, 2.0, 3.0, 4.0, 9.0], [8, 4, 2, 1, 5])
  y = 8 / 16
  np.testing.assert_allclose(discounts(counts), [0, 1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2])
  np.testing.assert_allclose(discounts(counts[:8]), [0, *FALLBACK_DISCOUNTS])


@pytest.mark.slow
def test_steps_give_the_conditionals_of_one_pass():
  model, params, carry = fitted(order=3)
  x = sequences(30, seed=3)[0] % 3
  cache, total = model.init_cache(params, len(x)), np.zeros(len(x))
  for index in range(6):
    cache, logits = step(model, params, cache, jnp.asarray(x[:, max(index - 1, 0)]), jnp.int32(index))
    np.testing.assert_allclose(jax.nn.logsumexp(logits, axis=1), 0.0, atol=1e-5)
    total += np.asarray(logits)[np.arange(len(x)), x[:, index]]
  np.testing.assert_allclose(total, log_probs(model, params, carry, x), rtol=1e-5)


def test_samples_and_completions_have_the_enumerated_probabilities():
  model, params, carry = fitted(order=3, spec=DataSpec((3,), 3, has_lengths=True),
                                data=(sequences()[0][:, :3] % 3, np.full(60, 3)))
  assert_samples_match(model, params, carry, KEY)
  assert_completions_match(model, params, carry, KEY, np.array([1, 0, 2]), [True, False, False], 5000)
  with pytest.raises(SpecError, match="position 2 is known, but position 0 is not"):
    model.complete(params, carry, KEY, np.zeros((1, 3), int), np.array([False, False, True]))


@pytest.mark.slow
def test_prompts_go_on_beyond_the_length_of_examples():
  model, params, _ = fitted()
  out = model.generate(params, KEY, prompt=np.array([[0, 1], [2, 0]]), max_length=40, with_log_probs=True)
  assert out.tokens.shape == (2, 40) and np.asarray(out.tokens)[:, :2].tolist() == [[0, 1], [2, 0]]
  pairs = itertools.pairwise(np.asarray(out.tokens[0]).tolist())
  assert np.mean([b == (a + 1) % 3 for a, b in pairs]) > 0.5


def test_what_cannot_be_is_refused():
  with pytest.raises(SpecError, match=r"model\.order is 0"):
    NGram(SPEC, order=0)
  with pytest.raises(SpecError, match="needs discrete data"):
    NGram(DataSpec((3,), None))
  with pytest.raises(SpecError, match=r"the training split has \d+ different n-grams of up to 3 tokens, more than "
                                      r"model\.capacity, 5; raise it"):
    NGram(SPEC, order=3, capacity=5).solve(KEY, Served(*sequences()))
  with pytest.raises(DataError, match=r"the value at index \[27, 0\] is 3, but levels is 3"):
    x, length = sequences()
    x[27, 0] = 3
    NGram(SPEC).solve(KEY, Served(x, length))
  with pytest.raises(DataError, match="there is no batch to fit to"):
    NGram(SPEC).solve(KEY, [])


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason=f"{SHAKESPEARE} is not here")
@pytest.mark.slow
def test_tiny_shakespeare():
  dataset = load_dataset(f"text:{SHAKESPEARE}#context=64")
  model = NGram(dataset.spec, 7)
  params, carry = model.solve(KEY, Passes(dataset, 500))
  found = evaluate_likelihood(model, params, carry, eval_batches(dataset, "valid", 500), key=KEY)
  assert found.num_dims.sum() == dataset.units["valid"]["tokens"]
  np.testing.assert_allclose(-found.nats.sum() / found.num_dims.sum(), 1.5802, atol=1e-3)
