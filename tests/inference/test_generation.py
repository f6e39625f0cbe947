"""Generation: what is kept of a distribution, where sequences end, and what errors say; on a table as the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError, DataError
from gdm.inference.generation import TokenChoice, check_lengths, check_prompt, check_token, generate

LEVELS, LENGTH = 5, 7
KEYS = jax.random.split(jax.random.key(0), 3)
# Logits of the next token by the last one, and its own row at the beginning.
TABLE = 2.0 * jax.random.normal(jax.random.key(1), (LEVELS + 1, LEVELS))


def step(cache, previous, index):
  """A Markov chain whose cache counts the steps."""
  return cache + 1, TABLE[jnp.where(index == 0, LEVELS, previous)]


def run(prompt=None, prompt_length=None, keys=KEYS, max_length=LENGTH, choice=None, **options):
  prompt = np.zeros((len(keys), 0), np.int32) if prompt is None else np.asarray(prompt, np.int32)
  lengths = np.full(len(keys), prompt.shape[1]) if prompt_length is None else np.asarray(prompt_length)
  return jax.jit(lambda keys, prompt, lengths: generate(step, jnp.zeros((), jnp.int32), keys, prompt, lengths,
                                                        max_length, choice, **options))(keys, prompt, lengths)


def kept(choice, logits, num=4000):
  """The tokens that are ever drawn."""
  return set(np.unique(choice.draw(jax.random.key(2), jnp.broadcast_to(logits, (num, len(logits))))).tolist())


@pytest.mark.slow
def test_nucleus_is_the_smallest_set_that_reaches_p():
  logits = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.25, 0.05]))
  assert kept(TokenChoice(top_p=0.3), logits) == {1}
  assert kept(TokenChoice(top_p=0.41), logits) == {1, 3}
  assert kept(TokenChoice(top_p=0.64), logits) == {1, 3}
  assert kept(TokenChoice(top_p=0.66), logits) == {1, 3, 2}
  assert kept(TokenChoice(top_p=0.94), logits) == {1, 3, 2, 0}
  assert kept(TokenChoice(top_p=1.0), logits) == {0, 1, 2, 3, 4}


@pytest.mark.slow
def test_nucleus_counts_after_temperature_and_top_k():
  logits = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.25, 0.05]))
  assert kept(TokenChoice(temperature=0.25, top_p=0.8), logits) == {1}  # 0.4^4 is 0.82 of the whole
  assert kept(TokenChoice(top_k=2, top_p=0.6), logits) == {1}  # 0.4 / 0.65 = 0.615


def test_equal_probabilities_do_not_enlarge_the_set():
  logits = jnp.zeros(5)
  assert len(kept(TokenChoice(top_k=2), logits)) == 2
  assert len(kept(TokenChoice(top_p=0.59), logits)) == 3
  assert kept(TokenChoice(top_k=100), logits) == set(range(5))


@pytest.mark.parametrize("levels", [3, 6, 10, 50, 256])
def test_the_nucleus_of_equal_tokens_at_every_share(levels):
  """A set of k of n equal tokens has probability k / n but for rounding, which must not add another one."""
  logits = jnp.zeros(levels)
  sizes = [int(np.sum(TokenChoice(top_p=k / levels)._kept(logits))) for k in range(1, levels)]
  assert sizes == list(range(1, levels))


@pytest.mark.parametrize("temperature", [1e-300, 1e-39, 1e-10, 1e300])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.9}])
def test_any_temperature_above_0(temperature, options):
  """Quotients are infinite in float32, or their ties are lost: the argmax, and equal ones equally often."""
  choice, every = TokenChoice(temperature, **options), {1} if temperature < 1 else {0, 1, 2}
  assert kept(choice, jnp.array([-700.0, 3.0, -2.0])) == every
  assert kept(choice, jnp.array([-700.0, -3.0, -7.0])) == every
  assert kept(choice, jnp.array([1.0, 1.0, -2.0])) == ({0, 1} if temperature < 1 else every)


def test_what_is_kept_keeps_its_proportions():
  logits = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.25, 0.05]))
  draws = TokenChoice(top_k=3).draw(jax.random.key(3), jnp.broadcast_to(logits, (20_000, 5)))
  shares = np.bincount(draws, minlength=5) / len(draws)
  np.testing.assert_allclose(shares, np.array([0, 0.4, 0.2, 0.25, 0]) / 0.85, atol=0.015)


@pytest.mark.fast_cases("choice1")
@pytest.mark.parametrize("choice", [TokenChoice(top_k=1), TokenChoice(temperature=1e-4), TokenChoice(top_p=1e-6)])
def test_each_way_to_be_greedy_follows_the_argmax(choice):
  tokens = run(choice=choice).tokens
  expected = [int(jnp.argmax(TABLE[LEVELS]))]
  while len(expected) < LENGTH:
    expected.append(int(jnp.argmax(TABLE[expected[-1]])))
  np.testing.assert_array_equal(tokens, np.broadcast_to(expected, (3, LENGTH)))


@pytest.mark.slow
def test_prompts_of_different_lengths_equal_single_runs():
  prompt, lengths = np.array([[1, 2, 3, 4], [4, 0, 0, 0], [2, 2, 0, 0]]), np.array([4, 1, 2])
  together = run(prompt, lengths, with_log_probs=True)
  for row, length in enumerate(lengths):
    alone = run(prompt[row:row + 1, :length], keys=KEYS[row:row + 1], with_log_probs=True)
    np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])
    np.testing.assert_allclose(alone.log_probs[0], together.log_probs[row], rtol=1e-6)
    np.testing.assert_array_equal(together.tokens[row, :length], prompt[row, :length])
  np.testing.assert_array_equal(together.lengths, [LENGTH] * 3)


@pytest.mark.slow
def test_sequences_stop_at_eos_and_are_padded():
  keys = jax.random.split(jax.random.key(4), 64)
  eos, pad = 3, 4
  free, stopped = np.asarray(run(keys=keys).tokens), run(keys=keys, eos=eos, pad=pad)
  tokens, lengths = np.asarray(stopped.tokens), np.asarray(stopped.lengths)
  ends = [row.tolist().index(eos) + 1 if eos in row else LENGTH for row in free]
  np.testing.assert_array_equal(lengths, ends)
  assert len(set(ends)) > 3
  for row, end, same in zip(tokens, ends, free, strict=True):
    np.testing.assert_array_equal(row[:end], same[:end])
    assert (row[end:] == pad).all()


def test_eos_within_a_prompt_ends_nothing():
  out = run([[3, 3]] * 3, eos=3, choice=TokenChoice(top_k=1))
  free = run([[3, 3]] * 3, choice=TokenChoice(top_k=1))
  assert (np.asarray(out.lengths) > 2).all()
  np.testing.assert_array_equal(out.tokens[0, :3], free.tokens[0, :3])


def test_the_loop_ends_with_its_last_sequence():
  steps = []

  def counted(cache, previous, index):
    jax.debug.callback(steps.append, index)
    return cache, jnp.zeros((2, LEVELS)).at[:, 3].set(1e9)

  jax.jit(lambda: generate(counted, (), KEYS[:2], jnp.zeros((2, 0), jnp.int32), jnp.zeros(2, jnp.int32), 100, eos=3))()
  jax.effects_barrier()
  assert len(steps) == 1


@pytest.mark.slow
def test_log_probs_and_alternatives_are_the_models_own():
  out = run([[1], [2], [0]], choice=TokenChoice(temperature=0.5, top_k=2), with_log_probs=True, num_alternatives=LEVELS)
  tokens, alternatives = np.asarray(out.tokens), out.alternatives
  log_probs = np.asarray(jax.nn.log_softmax(TABLE))
  expected = log_probs[tokens[:, :-1], tokens[:, 1:]]
  np.testing.assert_allclose(out.log_probs[:, 1:], expected, rtol=1e-5)
  np.testing.assert_array_equal(out.log_probs[:, 0], 0.0)
  np.testing.assert_allclose(np.exp(alternatives.log_probs[:, 1:]).sum(-1), 1.0, rtol=1e-5)
  assert (np.diff(alternatives.log_probs, axis=-1) <= 0).all()
  np.testing.assert_allclose(alternatives.log_probs[:, 1:],
                             np.take_along_axis(log_probs[tokens[:, :-1]], np.asarray(alternatives.tokens[:, 1:]), -1),
                             rtol=1e-5)
  assert run().log_probs is None and run().alternatives is None


def test_prefill_starts_at_the_shortest_prompt():
  seen = []

  def prefill(cache, prompt, num):
    jax.debug.callback(lambda num: seen.append(int(num)), num)
    return cache + num

  def counting(cache, previous, index):
    jax.debug.callback(lambda cache, index: seen.append((int(cache), int(index))), cache, index, ordered=True)
    return step(cache, previous, index)

  prompt, lengths = jnp.array([[1, 2, 3, 4], [4, 0, 0, 0]]), jnp.array([4, 2])
  out = jax.jit(lambda: generate(counting, jnp.zeros((), jnp.int32), KEYS[:2], prompt, lengths, LENGTH,
                                 prefill=prefill))()
  jax.effects_barrier()
  np.testing.assert_array_equal(out.tokens, run(prompt, lengths, keys=KEYS[:2]).tokens)
  assert seen == [2, *((i, i) for i in range(2, LENGTH))]


@pytest.mark.parametrize(("options", "message"), [
    ({"temperature": 0.0}, "temperature is 0.0; it must be finite and above 0"),
    ({"temperature": -1.0}, "temperature is -1.0"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"top_k": 0}, "top_k is 0; it must be at least 1"),
    ({"top_p": 0.0}, "top_p is 0.0; it must be above 0 and at most 1"),
    ({"top_p": 1.1}, "top_p is 1.1"),
])
def test_options_outside_their_range(options, message):
  with pytest.raises(ConfigError, match=message):
    TokenChoice(**options)


@pytest.mark.parametrize(("prompt", "lengths", "message"), [
    ([[1, 2], [1, 9]], [2, 2], r"prompt\[1, 1\] is 9; tokens are integers in \[0, 5\)"),
    ([[1, -2]], [2], r"prompt\[0, 1\] is -2"),
    ([[1, 2], [1, 2]], [2, 0], r"prompt_length\[1\] is 0; it must be 1 to 2"),
    ([[1, 2]], [3], r"prompt_length\[0\] is 3"),
    ([[1, 2, 3, 4]], [4], "the prompt of sequence 0 has 4 tokens, but the context is 3"),
])
def test_prompts_that_cannot_be_continued(prompt, lengths, message):
  with pytest.raises(DataError, match=message):
    check_prompt(np.array(prompt), np.array(lengths), LEVELS, 3)
  check_prompt(np.array([[1, 9]]), np.array([1]), LEVELS, 3)  # what is padding may be anything


def test_lengths_and_tokens_that_cannot_be():
  with pytest.raises(ConfigError, match="max_length is 0; it must be at least 1"):
    check_lengths(0, 10, 0)
  with pytest.raises(ConfigError, match=r"max_length is 3; .* at least 4, the length of the longest prompt"):
    check_lengths(3, 10, 4)
  with pytest.raises(ConfigError, match="max_length is 11, but the context is 10"):
    check_lengths(11, 10, 4)
  check_lengths(11, None, 4)
  with pytest.raises(ConfigError, match=r"eos is 5; it must be a token in \[0, 5\)"):
    check_token("eos", 5, LEVELS)
