"""Discretized logistic mixtures: all levels together have probability one, whatever the parameters."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from helpers.enumeration import assert_frequencies_match
from hypothesis import given, settings
from hypothesis import strategies as st

from gdm.distributions import discretized_logistic as dl

KEY = jax.random.key(0)


def random_mixture(key, shape, channels, size, coupled=True, scale=1.0):
  outputs = scale * jax.random.normal(key, (*shape, dl.num_parameters(channels, size, coupled)))
  return dl.from_outputs(outputs, channels, coupled)


def repeated(mixture, num):
  """One pixel's mixture for `num` pixels."""
  return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), mixture)


def all_pixels(levels, channels):
  return jnp.asarray(list(itertools.product(range(levels), repeat=channels)))


# Means far outside, scales from far below a bin to far above the range.
components = st.lists(st.tuples(st.floats(-20, 20), st.floats(-30, 30), st.floats(-14, 8)), min_size=3, max_size=3)


@pytest.mark.slow
@given(components, st.sampled_from([2, 3, 16, 256]))
@settings(max_examples=80)
def test_all_levels_together_have_probability_one(rows, levels):
  logits, means, log_scales = (jnp.asarray(column, jnp.float32) for column in zip(*rows, strict=True))
  mixture = dl.LogisticMixture(logits, means[None], log_scales[None], jnp.zeros((0, 3)))
  log_probs = jax.jit(dl.log_prob, static_argnames="levels")(repeated(mixture, levels), jnp.arange(levels)[:, None],
                                                             levels=levels)
  assert np.all(np.isfinite(log_probs))
  np.testing.assert_allclose(np.exp(np.asarray(log_probs, np.float64)).sum(), 1.0, atol=3e-5)


@pytest.mark.fast_cases("False-256-1")
@pytest.mark.parametrize(("levels", "channels"), [(256, 1), (5, 2), (12, 3), (4, 4)])
@pytest.mark.parametrize("coupled", [True, False])
def test_all_pixels_together_have_probability_one(levels, channels, coupled):
  mixture = random_mixture(KEY, (), channels, 4, coupled)
  x = all_pixels(levels, channels)
  log_probs = jax.jit(dl.log_prob, static_argnames="levels")(repeated(mixture, len(x)), x, levels=levels)
  np.testing.assert_allclose(np.exp(np.asarray(log_probs, np.float64)).sum(), 1.0, atol=2e-5)


def test_channels_are_coupled_as_in_equation_3():
  levels = 256
  mixture = random_mixture(KEY, (50,), 3, 1)
  x = jax.random.randint(jax.random.key(1), (50, 3), 0, levels)
  unit = np.asarray(x) / 127.5 - 1.0
  alpha, beta, gamma = np.moveaxis(np.asarray(mixture.coefficients)[..., 0], -1, 0)
  means = np.asarray(mixture.means)[..., 0].T.astype(float)
  means[1] += alpha * unit[:, 0]
  means[2] += beta * unit[:, 0] + gamma * unit[:, 1]
  scales = np.exp(np.asarray(mixture.log_scales, np.float64))[..., 0].T
  upper = np.where(unit.T > 0.999, np.inf, unit.T + 1 / 255)
  lower = np.where(unit.T < -0.999, -np.inf, unit.T - 1 / 255)
  bins = scipy.special.expit((upper - means) / scales) - scipy.special.expit((lower - means) / scales)
  got = jax.jit(dl.log_prob, static_argnames="levels")(mixture, x, levels=levels)
  np.testing.assert_allclose(got, np.log(bins).sum(axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_one_component_is_picked_for_all_channels():
  # Two components that disagree in every channel: mixed pixels are as good as impossible.
  means = jnp.asarray([[-1.0, 1.0]] * 3)
  mixture = dl.LogisticMixture(jnp.zeros(2), means, jnp.full((3, 2), -5.0), jnp.zeros((3, 2)))
  log_prob = jax.jit(dl.log_prob, static_argnames="levels")
  log_probs = log_prob(repeated(mixture, 2), jnp.asarray([[0, 0, 0], [0, 255, 0]]), levels=256)
  assert log_probs[0] > -3.0 and log_probs[1] < -100.0
  draws = np.asarray(jax.jit(dl.sample, static_argnames="levels")(KEY, repeated(mixture, 500), levels=256)) > 127
  assert np.all(draws == draws[:, :1]) and 200 < draws[:, 0].sum() < 300


def test_float32_agrees_with_float64_in_bins_and_tails():
  levels = 256
  means, log_scales = np.meshgrid(np.linspace(-1.5, 1.5, 31), np.linspace(-4.0, 4.0, 17))
  means, log_scales = np.float32(means.ravel())[:, None], np.float32(log_scales.ravel())[:, None]
  x = np.arange(levels)[None]
  got = jax.jit(dl.log_bin, static_argnames="levels")(jnp.asarray(means), jnp.asarray(log_scales), jnp.asarray(x),
                                                      levels=levels)
  scales, means = np.exp(np.float64(log_scales)), np.float64(means)
  upper, lower = ((2 * x + shift - levels) / (levels - 1) for shift in (2, 0))
  below, above = (upper - means) / scales, (means - lower) / scales
  # 1 - e^-d in float64 by expm1, a formula of its own for each of the three cases.
  inside = scipy.special.log_expit(below) + scipy.special.log_expit(above) + np.log(-np.expm1(-(2 / 255) / scales))
  expected = np.where(x == 0, scipy.special.log_expit(below),
                      np.where(x == levels - 1, scipy.special.log_expit(above), inside))
  np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.fast_cases("-5.0", "9.0", "60.0")
@pytest.mark.parametrize("log_scale", [-11.5, -5.0, 0.0, 9.0, 60.0])
def test_values_and_gradients_are_finite_in_the_tails(log_scale):
  pixel = dl.LogisticMixture(jnp.asarray([0.0, -40.0]), jnp.asarray([[-9.0, 9.0]]), jnp.full((1, 2), log_scale),
                     jnp.zeros((0, 2)))
  mixture = repeated(pixel, 4)
  x = jnp.asarray([[0], [1], [128], [255]])
  total, grads = jax.jit(jax.value_and_grad(lambda mixture: dl.log_prob(mixture, x, 256).sum()))(mixture)
  assert np.isfinite(total) and all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))


@pytest.mark.fast_cases("False")
@pytest.mark.parametrize("coupled", [True, False])
def test_a_channel_given_those_before_it_is_the_ratio_of_two_sums(coupled):
  levels = 4
  mixture = random_mixture(jax.random.key(3), (), 3, 4, coupled, 2.0)
  x = all_pixels(levels, 3)
  many = repeated(mixture, len(x))
  joint = np.exp(np.asarray(jax.jit(dl.log_prob, static_argnames="levels")(many, x, levels=levels), np.float64))
  joint = joint.reshape((levels,) * 3)
  sums = [1.0, joint.sum(axis=(1, 2)), joint.sum(axis=2), joint]
  chain = np.asarray(jax.jit(dl.chain_log_probs, static_argnames="levels")(many, x, levels=levels))
  given = jax.jit(dl.level_log_probs, static_argnames="levels")
  for channel in range(3):
    before = np.asarray(sums[channel])[..., None]
    expected = np.log(sums[channel + 1] / before).reshape(-1, 1, levels)
    own = np.moveaxis(np.broadcast_to(expected, (expected.shape[0], levels**(2 - channel), levels)), 2, 1)
    np.testing.assert_allclose(chain[:, channel], own.ravel(), rtol=1e-4, atol=1e-4)
    # What is not known yet may be anything.
    unknown = jnp.where(jnp.arange(3) < channel, x, 7 - x)
    levels_of = given(many, unknown, jnp.int32(channel), levels=levels)
    np.testing.assert_allclose(levels_of, np.repeat(expected[:, 0], levels**(3 - channel), axis=0), rtol=1e-4,
                               atol=1e-4)


@pytest.mark.slow
def test_conditionals_are_finite_in_the_tails():
  """Also where all components are as good as impossible, and where one has explained the channels before alone."""
  means, log_scales = jnp.asarray([[-9.0, 9.0]] * 3), jnp.full((3, 2), -7.0)
  mixture = dl.LogisticMixture(jnp.asarray([0.0, -40.0]), means, log_scales, jnp.ones((3, 2)))
  x = jnp.asarray([[0, 0, 0], [255, 255, 255], [0, 255, 128]])
  each = jax.jit(dl.chain_log_probs, static_argnames="levels")(repeated(mixture, 3), x, levels=256)
  assert np.isfinite(each).all()
  given = jax.jit(dl.level_log_probs, static_argnames="levels")
  for channel in range(3):
    log_probs = np.asarray(given(repeated(mixture, 3), x, jnp.int32(channel), levels=256), np.float64)
    assert np.isfinite(log_probs).all()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, rtol=1e-3)
    np.testing.assert_allclose(log_probs[np.arange(3), x[:, channel]], each[:, channel], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("levels", "channels", "coupled", "temperature"), [
    (16, 1, True, 0.7), (4, 3, True, 1.0), (4, 3, False, 0.7)])
def test_draws_follow_the_probabilities(levels, channels, coupled, temperature):
  mixture = random_mixture(jax.random.key(2), (), channels, 3, coupled)
  x = all_pixels(levels, channels)
  changed = mixture._replace(logits=mixture.logits / temperature, log_scales=mixture.log_scales + np.log(temperature))
  probs = np.exp(jax.jit(dl.log_prob, static_argnames="levels")(repeated(changed, len(x)), x, levels=levels))
  draw = jax.jit(dl.sample, static_argnames=("levels", "temperature"))
  draws = draw(KEY, repeated(mixture, 10_000), levels=levels, temperature=temperature)
  assert draws.dtype == jnp.int32 and draws.min() >= 0 and draws.max() < levels
  assert_frequencies_match(draws, np.asarray(x), probs)


def test_towards_zero_temperature_draws_are_the_nearest_level_channel_by_channel():
  means = jnp.asarray([[0.5, -0.5], [0.0, 0.0], [0.0, 0.0]])
  coefficients = jnp.asarray([[1.0, 0.0], [0.0, 0.0], [-0.5, 0.0]])
  mixture = dl.LogisticMixture(jnp.asarray([1.0, 0.0]), means, jnp.zeros((3, 2)), coefficients)
  draw = jax.jit(dl.sample, static_argnames=("levels", "temperature"))
  draws = np.asarray(draw(KEY, repeated(mixture, 20), levels=201, temperature=1e-6))
  np.testing.assert_array_equal(draws, np.tile([150, 150, 75], (20, 1)))


@pytest.mark.slow
def test_images_have_a_log_probability_per_pixel():
  mixture = random_mixture(KEY, (2, 4, 5), 3, 10)
  assert mixture.means.shape == (2, 4, 5, 3, 10) and dl.num_parameters(3, 10) == 100
  x = jax.random.randint(KEY, (2, 4, 5, 3), 0, 256).astype(jnp.uint8)
  score = jax.jit(dl.log_prob, static_argnames="levels")
  scores = score(mixture, x, levels=256)
  assert scores.shape == (2, 4, 5)
  np.testing.assert_allclose(scores, score(mixture, x.astype(jnp.int32), levels=256), rtol=1e-6)
