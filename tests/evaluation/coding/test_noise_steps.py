"""Diffusion models coded by bits back through their steps: what went in comes back, at the cost of the bound."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdm
from gdm.dataspec import DataSpec
from gdm.diffusion import bound
from gdm.diffusion.networks.denoising_mlp import DenoisingMLP
from gdm.errors import ConfigError, DataError, NotFiniteError, SpecError
from gdm.evaluation.coding.noise_steps import NoiseStepsCoder
from gdm.evaluation.coding.ways import ByNoiseSteps, way_of
from gdm.model import HasNoiseSteps

KEY = jax.random.key(0)
NETWORK = DenoisingMLP(hidden=(16,))
MODELS = {
    "ddpm": lambda: gdm.diffusion.ddpm(DataSpec((3,), 5), num_noise_steps=22, network=NETWORK),
    "ddpm, path's decoder": lambda: gdm.diffusion.ddpm(DataSpec((3,), 5), num_noise_steps=22, network=NETWORK,
                                                       decoder="uniform_prior"),
    "vdm": lambda: gdm.diffusion.vdm(DataSpec((2, 2, 2), 3), parametrization="levels", log_snr_max=5.0, coded_steps=12,
                                     network=NETWORK),
    "edm": lambda: gdm.diffusion.edm(DataSpec((3,), 4), coded_steps=10, network=NETWORK),
}


@functools.cache
def made(name, num=16):
  model = MODELS[name]()
  x = np.random.default_rng(0).binomial(model.spec.levels - 1, 0.3, (num, *model.spec.event)).astype(np.uint8)
  params, carry = model.init(KEY, {"x": jnp.asarray(x)})
  keys = iter(jax.random.split(jax.random.key(1), 100))
  params = {**params, "model": jax.tree.map(
      lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape), params["model"])}
  return model, params, carry, x


@pytest.mark.fast_cases("vdm")
@pytest.mark.parametrize("name", MODELS)
def test_examples_come_back(name):
  model, params, carry, x = made(name)
  way = way_of(model)
  assert isinstance(way, ByNoiseSteps) and way.by_latents
  coder = way.coder(params, carry, way.batch_size(len(x), 2))
  words = coder.encode(x)
  np.testing.assert_array_equal(coder.decode(words, len(x))[0], x)
  initial, parts = way.spent(coder)
  assert abs(32 * len(words) - initial - parts.total) <= 96  # whole words, and the state of the stack
  words[len(words) // 2] ^= 1
  with pytest.raises(DataError, match="other bits than the initial ones"):
    coder.decode(words, len(x))


def test_the_cost_is_the_bound_of_as_many_steps():
  """Of even and independent levels and the exact denoiser: logits of 0, with what noise says multiplied in."""
  spec, num = DataSpec((2, 2, 2), 3), 12
  model = gdm.diffusion.vdm(spec, parametrization="levels", log_snr_max=6.0, log_snr_min=-6.0, coded_steps=num,
                            network=NETWORK)
  x = np.random.default_rng(1).integers(0, 3, (64, *spec.event)).astype(np.uint8)
  params, carry = model.init(KEY, {"x": jnp.asarray(x)})
  params = {**params, "model": jax.tree.map(jnp.zeros_like, params["model"])}
  coder = NoiseStepsCoder(model, params, carry, 16)
  coder.encode(x)
  coded = coder.parts.total / len(x)
  path, data = model.sampling_path(params), model.scaling(carry).values(jnp.asarray(x))
  log_snr = jnp.linspace(*(path.log_snr(jnp.asarray(end)) for end in path.ends), num + 1)

  def term(key, s, t):
    t, s = (jnp.broadcast_to(path.time(each), len(x)) for each in (t, s))
    return model.step_loss(params, path, s, t, data, jax.random.normal(key, data.shape), None)

  keys = jax.random.split(KEY, (20, num))
  steps = jax.jit(lambda: jax.lax.map(lambda keys: jax.vmap(term)(keys, log_snr[:-1], log_snr[1:]), keys).sum(axis=1))()
  claimed = (float(steps.mean()) + float(bound.prior_loss(path, data).mean())) / math.log(2.0)
  assert claimed > spec.num_dims * math.log2(3)  # the entropy
  chance = 4.0 * float(steps.std()) / math.log(2.0) / len(x) ** 0.5
  assert abs(coded - claimed) < chance + 0.01 * claimed


def test_a_state_and_its_steps_are_those_of_the_path():
  """States after all steps have the moments of q(z_t | x): factors and deviations compose."""
  model, params, carry, x = made("vdm")
  assert isinstance(model, HasNoiseSteps)
  steps = model.noise_steps(params, carry)
  mean, variance = steps.first(jnp.asarray(x, jnp.int32)), steps.deviations[0] ** 2
  for factor, deviation in zip(steps.factors, steps.deviations[1:], strict=True):
    mean, variance = factor * mean, factor**2 * variance + deviation**2
  path = model.sampling_path(params)
  end = jnp.asarray(path.ends[1])
  values = model.scaling(carry).values(jnp.asarray(x)).reshape(len(x), -1)
  np.testing.assert_allclose(mean, path.alpha(end) * values, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(variance, path.sigma(end) ** 2, rtol=1e-4)
  total = jnp.exp(steps.level_log_probs(mean)).sum(axis=-1)
  np.testing.assert_allclose(total, 1.0, rtol=1e-5)


@pytest.mark.parametrize(("model", "error", "message"), [
    (lambda: gdm.diffusion.improved_ddpm(DataSpec((3,), 5), num_noise_steps=22, network=NETWORK), ConfigError,
     "variances are learned"),
    (lambda: gdm.diffusion.edm(DataSpec((3,), 4, num_classes=2), class_conditional=True, network=NETWORK), ConfigError,
     "is conditional on y, which a payload does not hold"),
    (lambda: gdm.diffusion.edm(DataSpec((3,), None), network=NETWORK), SpecError, "discrete")])
def test_models_that_cannot_be_coded(model, error, message):
  with pytest.raises(error, match=message):
    way_of(model())


def test_numbers_that_are_not_finite():
  model, params, carry, x = made("ddpm")
  broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
  with pytest.raises(NotFiniteError, match="NaN or infinit"):
    NoiseStepsCoder(model, broken, carry, 4).encode(x[:8])
