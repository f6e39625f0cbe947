"""Editing and guidance, where they are known: normal data, and mixtures whose labels are their components."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.exact_denoisers import NormalMixture, normal

from gdm.diffusion.paths.variance_preserving import Cosine
from gdm.errors import ConfigError
from gdm.inverse import guidance
from gdm.inverse.editing import generated, interpolated, inverted, reconstructed, sdedit, variations
from gdm.inverse.editing.inversion import spherical
from gdm.inverse.samplers.steps import part

KEY = jax.random.key(0)
PRIOR = normal(3)
PATHS = [None, Cosine()]
TWO = NormalMixture(np.array([0.3, 0.7]), np.array([[-1.0, 0.5], [1.0, 0.2]]), 0.2 * np.eye(2))


@pytest.mark.fast_cases("cosine")
@pytest.mark.parametrize("path", PATHS, ids=["edm", "cosine"])
def test_inversion_follows_the_flow_and_back(path):
  """Along the flow of normal data each principal coordinate keeps its place in units of its deviation."""
  denoiser, x = PRIOR.denoiser(path), jnp.asarray(PRIOR.sample(0, 5), jnp.float32)
  state = jax.jit(lambda x: inverted(denoiser, x, num_steps=300))(x)
  end = jnp.asarray(denoiser.ends[1], jnp.float32)
  alpha, sigma = float(denoiser.alpha(end)), float(denoiser.sigma(end))
  values, basis = np.linalg.eigh(PRIOR.covariance)
  expected = ((x - PRIOR.means) @ basis) / np.sqrt(values) * np.sqrt(alpha**2 * values + sigma**2)
  np.testing.assert_allclose((state - alpha * PRIOR.means) @ basis, expected, rtol=0.1, atol=0.05 * sigma)
  few, many = (np.abs(reconstructed(denoiser, inverted(denoiser, x, num_steps=num), num_steps=num) - x).max()
               for num in (20, 200))
  assert many < 0.1 and many < 0.4 * few


def test_sdedit_goes_from_the_guide_to_the_prior():
  denoiser, guide = PRIOR.denoiser(), jnp.asarray([[1.5, -1.0, 0.5]])
  found = {strength: np.asarray(sdedit(denoiser, guide, KEY, 2000, strength=strength, num_steps=100).x[:, 0])
           for strength in (0.0, 0.4, 0.6, 1.0)}
  np.testing.assert_allclose(found[0.0], np.broadcast_to(guide, (2000, 3)), atol=0.05)
  # Draws given the noised guide: their mean is the guide shrunk toward the prior's mean.
  for strength in (0.4, 0.6):
    variance = float(denoiser.sigma(part(denoiser, strength).first)) ** 2
    gain = PRIOR.covariance @ np.linalg.inv(PRIOR.covariance + variance * np.eye(3))
    expected = PRIOR.means[0] + gain @ (np.asarray(guide[0]) - PRIOR.means[0])
    np.testing.assert_allclose(found[strength].mean(axis=0), expected, atol=0.08)
  np.testing.assert_allclose(np.cov(found[1.0].T), PRIOR.covariance, atol=0.2)
  distances = [np.mean((x - np.asarray(guide)) ** 2) for x in found.values()]
  assert distances == sorted(distances)
  with pytest.raises(ConfigError, match=r"strength is 1.5; it must be in \[0, 1\]"):
    sdedit(denoiser, guide, KEY, strength=1.5)


@pytest.mark.slow
def test_interpolation_ends_at_its_ends_and_variations_begin_at_theirs():
  denoiser = TWO.denoiser()
  x, other = (jnp.asarray(TWO.sample(seed, 4), jnp.float32) for seed in (0, 1))
  way = interpolated(denoiser, x, other, 3, num_steps=300)
  np.testing.assert_allclose(way[0], x, atol=0.1)
  np.testing.assert_allclose(way[2], other, atol=0.1)
  none = variations(denoiser, x, KEY, 2, amount=0.0, num_steps=300).x
  np.testing.assert_allclose(none, np.broadcast_to(x, (2, 4, 2)), atol=0.1)
  near, far = (float(jnp.mean((variations(denoiser, x, KEY, 200, amount=amount).x - x) ** 2)) for amount in (0.1, 1.0))
  assert near < 0.3 * far
  forgotten = np.asarray(variations(denoiser, x[:1], KEY, 2000, amount=1.0).x[:, 0])
  np.testing.assert_allclose(forgotten.mean(axis=0), TWO.moments()[0], atol=0.1)
  with pytest.raises(ConfigError, match="num is 1"):
    interpolated(denoiser, x, other, 1)
  with pytest.raises(ConfigError, match="amount"):
    variations(denoiser, x, KEY, 1, amount=1.2)


def test_the_way_to_a_state_of_zeros_is_straight():
  """A state of zeros, as of the mean of the data, has no direction."""
  ones = jnp.ones((1, 2))
  np.testing.assert_allclose(spherical(ones, 0.0 * ones, 3)[:, 0, 0], [1.0, 0.5, 0.0])
  np.testing.assert_allclose(spherical(0.0 * ones, 0.0 * ones, 3)[:, 0, 0], 0.0)


def component(index):
  return NormalMixture(np.ones(1), TWO.means[index:index + 1], TWO.covariance)


@pytest.mark.parametrize("path", PATHS, ids=["edm", "cosine"])
def test_an_exact_classifier_makes_the_denoiser_of_its_class(path):
  """By Bayes's rule at every noise level: the score given a label is the score plus the classifier's gradient."""
  denoiser = TWO.denoiser(path)

  def log_label_probs(x, deviation):
    error = x[:, None] - jnp.asarray(TWO.means, jnp.float32)
    log_parts = jnp.log(jnp.asarray(TWO.weights)) - 0.5 * jnp.sum(error**2, -1) / (0.2 + deviation**2)
    return jax.nn.log_softmax(log_parts, axis=-1)

  x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
  t = denoiser.time(jnp.linspace(-4.0, 4.0, 6))
  labels = jnp.asarray([0, 1, 0])
  guided = guidance.classifier_guided(denoiser, log_label_probs, labels)
  expected = np.where(np.array([0, 1, 0, 0, 1, 0])[:, None] == 0, component(0).denoiser(path).mean(x, t),
                      component(1).denoiser(path).mean(x, t))
  np.testing.assert_allclose(guided.mean(x, t), expected, atol=2e-3)


def test_guidance_between_and_beyond():
  good, weak = component(0).denoiser(), TWO.denoiser(Cosine())
  x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
  t = good.time(jnp.linspace(-3.0, 5.0, 5))
  np.testing.assert_allclose(guidance.extrapolated(good, weak, 1.0).mean(x, t), good.mean(x, t), atol=1e-5)
  # The weaker one is of the same noise on its own path.
  np.testing.assert_allclose(guidance.extrapolated(good, weak, 0.0).mean(x, t), TWO.denoiser().mean(x, t), atol=2e-3)
  strong = guidance.extrapolated(good, weak, 3.0)
  assert strong.cost == 2
  middle = guidance.within_interval(strong, good, 0.2, 1.5)
  levels = np.asarray(guidance.denoiser_level(good, t))
  inside = ((levels > 0.2) & (levels <= 1.5))[:, None]
  assert 0 < inside.sum() < 5
  np.testing.assert_allclose(middle.mean(x, t), np.where(inside, strong.mean(x, t), good.mean(x, t)), atol=1e-5)
  for share in (0.0, 1.0):
    deviation = np.std(guidance.rescaled(strong, good, share).mean(x, t), axis=1)
    np.testing.assert_allclose(deviation, np.std((strong, good)[int(share)].mean(x, t), axis=1), rtol=1e-4)
  limited = dataclasses.replace(strong, limits=(-1.0, 1.0))
  kept = np.asarray(guidance.thresholded(limited).mean(10.0 * x, t))
  plain = np.asarray(strong.mean(10.0 * x, t))
  assert np.abs(kept).max() <= 1.0 + 1e-5
  inside = np.abs(plain).max(axis=1) <= 1.0
  np.testing.assert_allclose(kept[inside], plain[inside], atol=1e-5)
  assert float(guidance.denoiser_level(good, guidance.time_of_level(good, 0.7))) == pytest.approx(0.7, rel=1e-3)


def test_guided_draws_come_from_the_class():
  guided = guidance.extrapolated(component(0).denoiser(), TWO.denoiser(), 1.0)
  x = np.asarray(generated(guided, KEY, 1000, (2,), num_steps=60).x[:, 0])
  np.testing.assert_allclose(x.mean(axis=0), TWO.means[0], atol=0.06)


@pytest.mark.parametrize(("call", "message"), [
    (lambda d: guidance.extrapolated(d, d, -1.0), "scale is -1.0"),
    (lambda d: guidance.within_interval(d, d, 2.0, 1.0), "the interval is 2.0 to 1.0"),
    (lambda d: guidance.rescaled(d, d, 1.5), "share is 1.5"),
    (lambda d: guidance.thresholded(d), "needs data with limits"),
    (lambda d: guidance.thresholded(dataclasses.replace(d, limits=(-1.0, 1.0)), 0.0), "share is 0.0"),
    (lambda d: guidance.time_of_level(d, 0.0), "noise level is 0.0"),
    (lambda d: inverted(d, jnp.zeros((1, 3)), num_steps=0), "num_steps is 0")])
def test_guidance_that_cannot_be(call, message):
  with pytest.raises(ConfigError) as error:
    call(PRIOR.denoiser())
  assert message in str(error.value)
