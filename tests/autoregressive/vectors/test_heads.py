"""Output heads: blocks as categoricals with a fallback that keeps every input's likelihood finite."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from gdm.autoregressive.vectors.heads import BernoulliHead, BlockHead, CategoricalHead, make_head
from gdm.dataspec import DataSpec
from gdm.errors import SpecError

BLOCKS = DataSpec((9,), 2, blocks=((0, 2, 5), (1,), (3, 4, 6, 7), (8,)))
KEY = jax.random.key(0)


def head_of(spec, heads="auto", fallback=1e-5, ordered=True):
  return make_head(spec, heads, fallback, ordered)


def test_auto_takes_the_head_that_fits_the_data():
  assert type(head_of(DataSpec((4,), 2))) is BernoulliHead
  assert type(head_of(DataSpec((4,), 5))) is CategoricalHead
  assert type(head_of(BLOCKS)) is BlockHead
  assert type(head_of(BLOCKS, "binary")) is BernoulliHead


def test_a_block_is_a_categorical_of_its_members_and_none_with_laplaces_rule_as_fallback():
  head = BlockHead(BLOCKS, fallback=0.1)
  logits = jax.random.normal(KEY, (1, 9))
  patterns = np.array(list(itertools.product((0, 1), repeat=4)))
  x = np.zeros((16, 9), np.int32)
  x[:, [3, 4, 6, 7]] = patterns
  scores = jax.jit(head.log_prob)(jnp.tile(logits, (16, 1)), jnp.asarray(x))[:, 2]
  states = scipy.special.softmax(np.append(np.asarray(logits)[0, [3, 4, 6, 7]], 0.0))
  ones = patterns.sum(axis=1)
  valid = np.where(ones == 0, states[4], np.where(ones == 1, patterns @ states[:4], 0.0))
  expected = 0.9 * valid + 0.1 / (5 * scipy.special.binom(4, ones))
  np.testing.assert_allclose(np.exp(scores), expected, rtol=1e-5)
  np.testing.assert_allclose(np.sum(expected), 1.0, rtol=1e-12)


def test_a_block_of_one_is_a_bernoulli():
  logits = jax.random.normal(KEY, (2, 9))
  x = jnp.asarray([[0] * 9, [1] * 9])
  scores = jax.jit(BlockHead(BLOCKS, fallback=0.3).log_prob)(logits, x)[:, jnp.asarray([1, 3])]
  singles = BernoulliHead(DataSpec((9,), 2)).log_prob(logits, x)[:, jnp.asarray([1, 8])]
  np.testing.assert_allclose(scores, singles, rtol=1e-6)


def test_every_pattern_has_a_finite_likelihood_and_gradient():
  head = BlockHead(BLOCKS, fallback=1e-6)
  x = jnp.asarray(list(itertools.product((0, 1), repeat=9)))
  for scale in (1.0, 300.0):
    logits = scale * jax.random.normal(KEY, (512, 9))
    scores, grads = jax.jit(jax.value_and_grad(lambda logits: head.log_prob(logits, x).sum()))(logits)
    assert np.isfinite(scores) and np.all(np.isfinite(grads))


@pytest.mark.fast_cases("spec1")
@pytest.mark.parametrize("spec", [BLOCKS, DataSpec((4, 1), 5), DataSpec((3, 2), 2)])
def test_variables_come_apart_and_together(spec):
  head = head_of(spec)
  x = jax.random.randint(KEY, (6, spec.num_dims), 0, spec.levels)
  order = np.random.default_rng(0).permutation(head.num_variables)
  values = head.split(x)
  np.testing.assert_array_equal(head.join(values[order], jnp.asarray(order)), x)
  columns = head.encode(x)
  for variable in range(head.num_variables):
    mine = head.columns[variable][head.columns[variable] < head.num_columns]
    np.testing.assert_array_equal(head.encode_value(values[variable])[:, :len(mine)], columns[:, mine])


@pytest.mark.fast_cases("spec1")
@pytest.mark.parametrize("spec", [BLOCKS, DataSpec((4,), 5), DataSpec((3,), 2)])
def test_scores_of_single_variables_are_those_of_all_at_once(spec):
  head = head_of(spec, fallback=0.01)
  x = jax.random.randint(KEY, (20, spec.num_dims), 0, spec.levels)
  logits = jax.random.normal(KEY, (20, head.num_columns))
  padded = jnp.pad(logits, ((0, 0), (0, 1)), constant_values=99.0)

  @jax.jit
  def both(padded):
    alone = [head.score(padded[:, head.columns[variable]], value, jnp.asarray(variable))
             for variable, value in enumerate(head.split(x))]
    return jnp.stack(alone, axis=1), head.log_prob(padded[:, :-1], x)

  np.testing.assert_allclose(*both(padded), rtol=1e-5)


def test_levels_that_are_a_scale_are_thermometers_and_names_are_one_hot():
  x = jnp.asarray([[0, 2]])
  np.testing.assert_array_equal(head_of(DataSpec((2,), 3)).encode(x), [[1, 0, 0, 1, 1, 1]])
  np.testing.assert_array_equal(head_of(DataSpec((2,), 3), ordered=False).encode(x), [[1, 0, 0, 0, 0, 1]])


def test_categorical_heads_do_not_take_continuous_data():
  with pytest.raises(SpecError, match="continuous"):
    head_of(DataSpec((4,), None))
