"""Trouble is told in words, and nothing where there is none."""

import jax
import jax.numpy as jnp
import pytest

from gdm.adversarial import trouble

REAL = jax.random.normal(jax.random.key(0), (400, 3, 2))
HEALTHY = {"critic/diversity": 0.9, "critic/accuracy": 0.7, "critic/grad_norm": 3.0, "generator/grad_norm": 1.0}


def test_diversity_is_one_of_the_same_distribution_and_zero_of_a_point():
  assert abs(trouble.diversity(REAL, REAL[::-1] + 5.0) - 1.0) < 0.05
  assert trouble.diversity(REAL, jnp.ones_like(REAL)) == 0.0
  assert abs(trouble.diversity(REAL, 0.1 * REAL) - 0.1) < 1e-5


def test_accuracy_is_a_half_where_scores_say_nothing():
  scores = REAL[:, 0, 0]
  assert abs(float(jnp.mean(trouble.accuracy(scores, scores[::-1]))) - 0.5) < 1e-6
  assert float(jnp.mean(trouble.accuracy(scores + 100.0, scores))) == 1.0


@pytest.mark.parametrize("changed, words", [
    ({}, ""),
    ({"critic/diversity": 0.01}, "generator collapsed: its samples differ from each other by 0.01"),
    ({"critic/accuracy": 1.0}, "critic dominates"),
    ({"generator/grad_norm": 1e6}, "generator diverges"),
])
def test_what_went_wrong_is_told(changed, words):
  found = trouble.verdict({**HEALTHY, **changed})
  assert words in found and bool(words) == bool(found)
