"""Bits back: what is coded comes back, and costs what the bound says."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, SpecError
from gdm.evaluation.coding import gaussians
from gdm.evaluation.coding.bits_back import BitsBackCoder
from gdm.evaluation.coding.bottomless import BottomlessStack
from gdm.evaluation.coding.files import Coding, Examples, decode, encode
from gdm.evaluation.coding.tables import TOTAL, uniform
from gdm.evaluation.coding.ways import way_of
from gdm.latent.networks.perceptrons import PerceptronDecoder, PerceptronEncoder
from gdm.latent.outputs import LogisticMixtureOutput
from gdm.latent.priors import MixturePrior
from gdm.latent.vae import VAE
from gdm.runs.registry import build_model

SLACK = 72  # bits: what is left of the stack's top, in words of 32
IMAGES = DataSpec((3, 2, 3), 5)
NETWORKS = {"encoder": PerceptronEncoder(hidden=(8,)), "decoder": PerceptronDecoder(hidden=(8,))}
OUTPUTS = {"categorical": None, "mixture of logistics": LogisticMixtureOutput(2)}


@functools.cache
def made(output="categorical", spec=IMAGES):
  """A VAE with parameters far from where they start, whose posterior is no good."""
  model = VAE(spec, latent_dims=3, output=OUTPUTS[output], **NETWORKS)
  x = np.random.default_rng(0).integers(0, spec.levels, (20, *spec.event)).astype(np.uint8)
  params, carry = jax.jit(model.init)(jax.random.key(0), {"x": x})
  rng = np.random.default_rng(1)
  return model, jax.tree.map(lambda leaf: leaf + rng.normal(0.0, 0.15, leaf.shape).astype(np.float32), params), carry


def sampled(num, output="categorical", spec=IMAGES):
  model, params, carry = made(output, spec)
  return np.asarray(jax.jit(lambda: model.sample(params, carry, jax.random.key(3), num).x)(), np.uint8)


def bound_bits(x, num_samples, num_draws=20):
  """Bits that the bound claims, in the mean of several draws of all examples, and their standard deviation."""
  model, params, carry = made()
  score = jax.jit(functools.partial(model.log_likelihood, num_samples=num_samples))
  draws = [-float(np.sum(score(params, carry, {"x": x}, jax.random.key(i)).nats)) for i in range(num_draws)]
  return np.mean(draws) / math.log(2.0), np.std(draws) / math.log(2.0)


@dataclasses.dataclass(frozen=True)
class Ladder:
  """Two layers of Gaussians above bits; every moment is a function of all that it may depend on."""

  spec: DataSpec = DataSpec((4,), 2)

  def latent_layers(self):
    return (2, 3)

  def posterior_moments(self, params, carry, x, above):
    seen = 0.3 * jnp.sum(x, axis=1, keepdims=True) + sum(jnp.sum(z, axis=1, keepdims=True) for z in above)
    dims = self.latent_layers()[len(above)]
    return jnp.sin(seen + jnp.arange(dims)), jnp.exp(-2.0 + 0.5 * jnp.cos(seen + jnp.arange(dims)))

  def prior_moments(self, params, carry, num, above):
    dims = self.latent_layers()[len(above)]
    seen = sum((jnp.sum(z, axis=1, keepdims=True) for z in above), jnp.zeros((num, 1)))
    return jnp.broadcast_to(0.5 * seen, (num, dims)), jnp.broadcast_to(jnp.exp(0.1 * seen), (num, dims))

  def level_log_probs(self, params, carry, latents, x, channel):
    logits = jnp.concatenate([latents[0], latents[1][:, :2]], axis=1)
    return jax.nn.log_sigmoid(jnp.stack([-logits, logits], axis=-1))


# The grid


def test_the_digits_of_a_bin_have_the_mass_of_a_gaussian():
  mean, scale = np.array([0.3, -2.0]), np.array([0.1, 1.5])
  index = np.random.default_rng(0).integers(0, gaussians.BINS - 1, (2, 500))
  index[0] = np.argsort(np.abs(gaussians.midpoints(np.arange(gaussians.BINS)) - mean[0]))[:500]
  total = np.zeros(index.shape)
  for digit in range(gaussians.DIGITS):
    prefix, symbol = gaussians.digits_of(index, digit)
    tables = gaussians.digit_tables(np.broadcast_to(mean[:, None], index.shape),
                                    np.broadcast_to(scale[:, None], index.shape), prefix, digit)
    assert tables.min() >= 1 and (tables.sum(axis=-1) == TOTAL).all()
    total += np.log(np.take_along_axis(tables, symbol[..., None], axis=-1)[..., 0] / TOTAL)
  z = gaussians.midpoints(index)
  width = gaussians.midpoints(index + 1) - z
  density = -0.5 * ((z - mean[:, None]) / scale[:, None])**2 - np.log(scale[:, None] * math.sqrt(2.0 * math.pi))
  inner = (np.abs(z) < 4.0) & (density > math.log(1e-4))
  np.testing.assert_allclose((total - np.log(width))[inner], density[inner], atol=0.02)


def test_a_standard_normal_is_one_of_the_gaussians():
  index = np.random.default_rng(0).integers(0, gaussians.BINS, 200)
  for digit in range(gaussians.DIGITS):
    prefix, _ = gaussians.digits_of(index, digit)
    np.testing.assert_array_equal(gaussians.standard_tables(prefix, digit),
                                  gaussians.digit_tables(np.zeros(200), np.ones(200), prefix, digit))


def test_what_is_popped_from_nothing_is_initial_bits_and_comes_back():
  stack, tables = BottomlessStack(), uniform(40, 100)
  symbols = stack.pop(tables)
  assert len(np.unique(symbols)) > 20 and 0 < stack.num_initial <= 40 * math.log2(100) / 32 + 2 + 8
  assert not stack.is_initial
  stack.push(symbols, tables)
  assert stack.is_initial and len(stack.words()) == stack.num_initial
  stack.push(np.zeros(4, np.int32), uniform(4, 100))
  assert not stack.is_initial and not BottomlessStack(stack.words()).is_initial


# Examples


@pytest.mark.fast_cases("categorical-3")
@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("output", OUTPUTS)
def test_examples_come_back_and_the_stack_holds_the_sum_of_its_parts(output, num_samples):
  model, params, carry = made(output)
  x = np.concatenate([sampled(6, output), np.random.default_rng(5).integers(0, 5, (4, 3, 2, 3)).astype(np.uint8)])
  coder = BitsBackCoder(model, params, carry, 4, num_samples)
  words = coder.encode(x)
  assert abs(32 * len(words) - coder.num_initial_bits - coder.parts.total) < SLACK
  assert (coder.parts.choice == 0.0) == (num_samples == 1)
  found, length = coder.decode(words, len(x))
  np.testing.assert_array_equal(found, x)
  assert length is None
  with pytest.raises(DataError, match="other bits than the initial ones"):
    coder.decode(words, len(x) - 1)


@pytest.mark.fast_cases("1")
@pytest.mark.parametrize("num_samples", [1, 3])
def test_layers_are_coded_from_the_top_down(num_samples):
  model = Ladder()
  x = np.random.default_rng(0).integers(0, 2, (30, 4)).astype(np.uint8)
  coder = BitsBackCoder(model, {}, {}, 3, num_samples)
  words = coder.encode(x)
  np.testing.assert_array_equal(coder.decode(words, 30)[0], x)
  assert abs(32 * len(words) - coder.num_initial_bits - coder.parts.total) < SLACK


@pytest.mark.slow
def test_one_draw_costs_the_elbo_and_several_the_bound_of_importance_weights():
  model, params, carry = made()
  x = sampled(150)
  (elbo, _), (tight, _) = bound_bits(x, 1), bound_bits(x, 300, 1)
  paid = {}
  for num in (1, 8):
    claimed, deviation = bound_bits(x, num)
    coder = BitsBackCoder(model, params, carry, 16, num)
    coder.encode(x)
    paid[num] = coder.parts.total
    assert abs(paid[num] - claimed) < 4.0 * deviation
  assert elbo - tight > 0.05 * tight, "the posterior is loose"
  assert elbo - paid[8] > 0.5 * (elbo - tight)


def test_a_file_opens_with_the_same_number_of_draws():
  model, params, carry = made()
  x, coding = sampled(12), Coding(model, {"name": "vae"}, params, carry, 7, True)
  coded = encode(coding, Examples(x), split="test", data="0" * 16, batch_size=8, num_samples=2)
  assert coded.header.num_samples == 2 and coded.initial_bits > 0 and coded.parts is not None
  assert abs(coded.payload_bits - coded.initial_bits - coded.parts.total) < SLACK
  np.testing.assert_array_equal(decode(coding, coded.header, coded.payload).x, x)


# What is refused


def test_models_that_cannot_be_coded_say_which_setting_is_why():
  bits = DataSpec((4,), 2)
  with pytest.raises(ConfigError, match=r"model\.prior is MixturePrior; .* prior\.name=normal"):
    way_of(VAE(bits, latent_dims=2, prior=MixturePrior(3)))
  with pytest.raises(ConfigError, match="VAE is conditional on y, which a payload does not hold"):
    way_of(VAE(DataSpec((4,), 2, num_classes=2), class_conditional=True))
  with pytest.raises(SpecError, match="lossless coding"):
    way_of(VAE(DataSpec((4,), None)))
  with pytest.raises(ConfigError, match="num_samples is 2, but MADE is coded without any draw"):
    way_of(build_model({"name": "made"}, bits), 2)
  with pytest.raises(ConfigError, match="num_samples is 0; it must be at least 1"):
    way_of(VAE(bits), 0)


def test_examples_out_of_range_or_with_lengths_are_refused():
  model, params, carry = made()
  coder = BitsBackCoder(model, params, carry, 2)
  with pytest.raises(DataError, match="example 1 holds values from 5 to 5"):
    coder.encode(np.full((2, 3, 2, 3), 5) - np.array([1, 0]).reshape(2, 1, 1, 1))
  with pytest.raises(DataError, match="choose a model of sequences"):
    coder.encode(np.zeros((2, 3, 2, 3), np.uint8), np.array([1, 1]))
