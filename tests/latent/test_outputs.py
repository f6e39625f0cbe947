"""Every output is a distribution, samples itself, and codes level by level."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers.enumeration import assert_frequencies_match, states_of

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.latent.outputs import (
    BernoulliOutput,
    CategoricalOutput,
    GaussianOutput,
    LogisticMixtureOutput,
    output_for,
    places_of,
)

DISCRETE = {
    "bernoulli": (BernoulliOutput(), DataSpec((5,), 2)),
    "bernoulli_image": (BernoulliOutput(), DataSpec((2, 2, 1), 2)),
    "categorical": (CategoricalOutput(), DataSpec((3,), 4)),
    "categorical_image": (CategoricalOutput(), DataSpec((1, 1, 3), 3)),
    "logistic_mixture": (LogisticMixtureOutput(2), DataSpec((3,), 4)),
    "logistic_mixture_image": (LogisticMixtureOutput(2), DataSpec((1, 1, 3), 4)),
}
each_discrete = pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if name == "logistic_mixture" else ()) for name in DISCRETE])


def numbers_of(output, spec, scale=1.0, batch=1):
  shape = (batch, *places_of(spec)[0], output.num_outputs(spec))
  return scale * jax.random.normal(jax.random.key(1), shape)


def made(name):
  output, spec = DISCRETE[name]
  x = np.random.default_rng(0).integers(0, spec.levels, (20, *spec.event))
  return output, spec, output.init(spec, jnp.asarray(x))


@pytest.mark.fast_cases("bernoulli", "bernoulli_image", "categorical")
@each_discrete
def test_probabilities_sum_to_one_and_samples_and_means_follow_them(name):
  output, spec, own = made(name)
  numbers, states = numbers_of(output, spec), states_of(spec)
  log_prob, sample = jax.jit(functools.partial(output.log_prob, spec)), jax.jit(functools.partial(output.sample, spec))
  probs = np.exp(log_prob(own, jnp.repeat(numbers, len(states), axis=0), jnp.asarray(states)))
  np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
  drawn = sample(own, jnp.repeat(numbers, 4000, axis=0), jax.random.key(2))
  assert_frequencies_match(drawn, states, probs)
  if not isinstance(output, LogisticMixtureOutput):  # whose mean leaves out the piles at the ends
    mean = np.tensordot(probs, states, 1)
    np.testing.assert_allclose(output.mean(spec, own, numbers)[0], mean, rtol=1e-4)


@pytest.mark.fast_cases("categorical", "bernoulli_image")
@each_discrete
def test_levels_of_all_channels_make_the_whole(name):
  output, spec, own = made(name)
  x = jnp.asarray(states_of(spec)[::7])
  numbers, (places, channels) = numbers_of(output, spec, batch=len(x)), places_of(spec)
  total, by_place = 0.0, x.reshape(len(x), *places, channels)
  for channel in range(channels):
    levels = jax.jit(functools.partial(output.level_log_probs, spec), static_argnums=3)(own, numbers, x, channel)
    assert levels.shape == (len(x), *places, spec.levels)
    np.testing.assert_allclose(np.exp(levels).sum(-1), 1.0, rtol=1e-4)
    mine = jnp.take_along_axis(levels, by_place[..., channel, None], axis=-1)
    total = total + mine.reshape(len(x), -1).sum(1)
  whole = jax.jit(functools.partial(output.log_prob, spec))(own, numbers, x)
  np.testing.assert_allclose(total, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.fast_cases("spec0-dims", "spec1-dims", "spec0-network")
@pytest.mark.parametrize("scale", ["shared", "dims", "network"])
@pytest.mark.parametrize("spec", [DataSpec((3,), None), DataSpec((2, 1, 3), None)])
def test_a_gaussian_output_is_one(scale, spec):
  output = GaussianOutput(scale, floor=0.1)
  x = jax.random.normal(jax.random.key(0), (50, *spec.event)) * jnp.arange(1.0, 1 + spec.event[-1])
  own, numbers = output.init(spec, x), numbers_of(output, spec, 0.3, 50)
  drawn = output.sample(spec, own, jnp.repeat(numbers[:1], 20_000, axis=0), jax.random.key(1))
  mean, deviation = output.mean(spec, own, numbers), jnp.std(drawn, axis=0)
  np.testing.assert_allclose(jnp.mean(drawn, axis=0), mean[0], atol=0.1)
  expected = scipy.stats.norm.logpdf(x[0], mean[0], deviation).sum()
  np.testing.assert_allclose(output.log_prob(spec, own, numbers[:1], x[:1])[0], expected, rtol=0.03)
  assert float(deviation.min()) > 0.1


def test_a_new_output_has_the_frequencies_of_the_data():
  spec = DataSpec((2,), 3)
  x = jnp.asarray([[0, 2]] * 8 + [[1, 2]] * 2)
  own = CategoricalOutput().init(spec, x)
  levels = np.exp(CategoricalOutput().level_log_probs(spec, own, jnp.zeros((1, 2, 3)), x[:1], 0))
  np.testing.assert_allclose(levels[0], [[9 / 13, 3 / 13, 1 / 13], [1 / 13, 1 / 13, 11 / 13]], rtol=1e-5)


@pytest.mark.parametrize(("levels", "kind"), [
    (2, BernoulliOutput), (17, CategoricalOutput), (256, LogisticMixtureOutput), (None, GaussianOutput)])
def test_the_usual_output_follows_the_data(levels, kind):
  assert isinstance(output_for(None, DataSpec((4,), levels)), kind)


@pytest.mark.parametrize(("output", "levels", "words"), [
    (BernoulliOutput(), None, "binary data"), (BernoulliOutput(), 4, "binary data"),
    (CategoricalOutput(), None, "discrete data"), (GaussianOutput(), 4, "continuous data"),
    (LogisticMixtureOutput(), 2, "at least 3 levels")])
def test_an_output_of_other_data_is_refused(output, levels, words):
  with pytest.raises(SpecError, match=words):
    output_for(output, DataSpec((4,), levels))


def test_an_unknown_scale_is_named():
  with pytest.raises(ConfigError, match=r"output\.scale is 'dim'"):
    GaussianOutput("dim")
