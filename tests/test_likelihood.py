"""Kinds of numbers, and what a mixture of them is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import SpecError
from gdm.likelihood import Kind, LogLikelihood, mix

HALVES = np.log([0.5, 0.5])


def number(kind, unbiased=False, nats=0.0, given=()):
  return LogLikelihood.of(jnp.full(3, nats), 4, kind, given, unbiased=unbiased)


@pytest.mark.parametrize("parts, kind, unbiased", [
    ([number(Kind.EXACT)] * 2, Kind.EXACT, True),
    ([number(Kind.EXACT), number(Kind.LOWER_BOUND, unbiased=True)], Kind.LOWER_BOUND, True),
    ([number(Kind.LOWER_BOUND, unbiased=True)] * 2, Kind.LOWER_BOUND, True),
    ([number(Kind.SAMPLER_BOUND, unbiased=True)] * 2, Kind.SAMPLER_BOUND, True),
    ([number(Kind.SAMPLER_BOUND, unbiased=True), number(Kind.LOWER_BOUND, unbiased=True)], Kind.SAMPLER_BOUND, True),
    ([number(Kind.LOWER_BOUND)] * 2, Kind.ESTIMATE, False),
    ([number(Kind.EXACT), number(Kind.LOWER_BOUND)], Kind.ESTIMATE, False),
    ([number(Kind.LOWER_BOUND, unbiased=True), number(Kind.LOWER_BOUND)], Kind.ESTIMATE, False),
    ([number(Kind.EXACT), number(Kind.ESTIMATE, unbiased=True)], Kind.ESTIMATE, False),
    ([number(Kind.LOWER_BOUND, unbiased=True), number(Kind.UPPER_BOUND)], Kind.ESTIMATE, False),
])
def test_only_exact_numbers_and_unbiased_bounds_stay_what_they_are(parts, kind, unbiased):
  for order in itertools.permutations(parts):
    mixed = mix(order, HALVES)
    assert (mixed.kind, mixed.unbiased) == (kind, unbiased)


@pytest.mark.fast_cases(
    "False-lower_bound", "False-upper_bound", "False-estimate", "False-lower_bound_of_sampler", "True-exact",
    "True-lower_bound", "True-upper_bound", "True-estimate", "True-lower_bound_of_sampler")
@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("unbiased", [False, True])
def test_one_part_is_no_mixture(kind, unbiased):
  part = number(kind, unbiased)
  mixed = mix([part], np.zeros(1))
  assert (mixed.kind, mixed.is_mixable) == (part.kind, part.is_mixable)


def test_numbers_are_those_of_the_weighted_sum():
  parts = [number(Kind.EXACT, nats=nats, given=("y",)) for nats in (-1.0, -300.0, -2.5)]
  mixed = mix(parts, np.log([0.5, 0.3, 0.2]))
  np.testing.assert_allclose(mixed.nats, np.log(0.5 * np.exp(-1.0) + 0.2 * np.exp(-2.5)), rtol=1e-6)
  assert mixed.given == ("y",) and list(mixed.num_dims) == [4, 4, 4]
  with pytest.raises(SpecError, match="conditional on the same"):
    mix([*parts, number(Kind.EXACT)], np.zeros(4))


@pytest.mark.slow
def test_noise_lifts_a_mixture_unless_exponentials_are_unbiased():
  """Draws of a bound with deviation s: centred at log p - s^2 / 2 its exponential is unbiased, at log p it is not."""
  log_p, s, draws = -3.0, 2.0, 200_000
  noise = s * jax.random.normal(jax.random.key(0), (8, draws))

  def mean_of_mixture(centre):
    parts = [LogLikelihood.of(centre + each, 1, Kind.LOWER_BOUND) for each in noise]
    return float(jnp.mean(mix(parts, np.full(8, -np.log(8))).nats))

  assert mean_of_mixture(log_p - s**2 / 2) < log_p - 0.05
  assert mean_of_mixture(log_p) > log_p + 0.5
