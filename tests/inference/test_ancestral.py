"""Ancestral sampling, against a chain whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np

from gdm.inference.ancestral import ancestral

STEPS, BATCH = 6, 4


def counter(cache, previous, index):
  """Logits that name the sum of the values so far; draws are deterministic."""
  total = cache + jnp.where(index > 0, previous, 0)
  return total, total


def add_one(key, logits, index):
  return logits + 1


def test_each_step_sees_all_values_before_it():
  forced = jnp.zeros((STEPS, BATCH), jnp.int32)
  values = ancestral(counter, add_one, jnp.zeros(BATCH, jnp.int32), jax.random.key(0), forced, np.zeros(STEPS, bool))
  np.testing.assert_array_equal(values, np.tile(2 ** np.arange(STEPS)[:, None], BATCH))


def test_known_values_are_kept_and_seen():
  forced = jnp.full((STEPS, BATCH), 10, jnp.int32)
  known = np.array([True, False, True, False, False, False])
  values = ancestral(counter, add_one, jnp.zeros(BATCH, jnp.int32), jax.random.key(0), forced, known)
  np.testing.assert_array_equal(values[:, 0], [10, 11, 10, 32, 64, 128])


def test_steps_draw_independently_and_reproducibly():
  def draw(key, logits, index):
    return jax.random.randint(key, logits.shape, 0, 1000)

  def run(seed):
    forced = jnp.zeros((STEPS, BATCH), jnp.int32)
    return np.asarray(ancestral(counter, draw, jnp.zeros(BATCH, jnp.int32), jax.random.key(seed), forced,
                                np.zeros(STEPS, bool)))

  assert len(np.unique(run(0))) > STEPS * BATCH - 4
  np.testing.assert_array_equal(run(0), run(0))
  assert not np.array_equal(run(0), run(1))
