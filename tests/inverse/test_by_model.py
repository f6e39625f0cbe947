"""Restoring by what models can do themselves: every registered one against its own samples, weighed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_models import SMALL, small_batch, small_model, some_parameters

import gdm.inverse
from gdm.batches import given
from gdm.errors import ConfigError, NotFiniteError, SpecError
from gdm.inverse.operators import mask, operator_of
from gdm.inverse.samplers.by_model import Measurements
from gdm.model import HasPosterior

KEY = jax.random.key(0)
NOISE = 0.7
NUM = 256


def with_posterior():
  """Names of the models that draw given measurements and whose own samples are quick and exact to the eye."""
  return [name for name in SMALL if isinstance(small_model(name), HasPosterior)]


@pytest.mark.fast_cases("gan")
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in ("maf", "gan") else pytest.mark.slow) for name in with_posterior()])
def test_posterior_means_are_those_of_weighed_samples(name):
  """E[x | y] = E[x p(y | x)] / E[p(y | x)] over the model's samples, for one measurement of noised first entries."""
  model = small_model(name)
  if getattr(model, "base", "normal") != "normal":
    pytest.skip("a base of uniform ends")
  batch = small_batch(model)
  params, carry = some_parameters(model, batch)
  condition = {each: np.asarray(batch[each])[:1] for each in given(model)} or None
  known = np.zeros(model.spec.event, bool)
  known.reshape(-1)[:2] = True
  operator = mask(known)
  if condition is not None and hasattr(model, "target"):
    pytest.skip("energies take no labels here")
  many = model.sample(params, carry, jax.random.key(1), 4000,
                      None if condition is None else {k: np.repeat(v, 4000, 0) for k, v in condition.items()}).x
  many = np.asarray(many, np.float32)
  high = np.argsort(many.reshape(len(many), -1)[:, 0])[-len(many) // 10]  # a sample that is not like most
  y = gdm.inverse.measure(operator, many[high][None], NOISE, KEY)
  weights = np.exp(np.asarray(Measurements(operator, y, jnp.asarray(NOISE))(jnp.asarray(many), jnp.zeros(4000, int))))
  weights = weights / weights.sum()
  effective = 1.0 / np.sum(weights**2)
  assert effective > 100
  mean = np.tensordot(weights, many, 1)
  deviation = np.sqrt(np.tensordot(weights, (many - mean) ** 2, 1))
  found = gdm.inverse.restore(model, params, carry, operator, y, jax.random.key(2), noise=NOISE, sampler="posterior",
                              num=NUM, condition=condition)
  assert found.x.shape == (NUM, 1, *model.spec.event)
  tolerance = 5.0 * np.sqrt(1.0 / effective + 1.0 / 60)  # chains are not quite independent
  error, of_prior = (np.abs(each - mean) / (deviation + 1e-6)
                     for each in (np.asarray(found.mean[0]), many.mean(axis=0)))
  assert of_prior.max() > tolerance  # the measurement changes something
  assert np.all(error < tolerance), error.max()


@pytest.mark.slow
def test_draws_without_a_likelihood_are_an_error():
  model = small_model("gan")
  batch = small_batch(model)
  params, carry = some_parameters(model, batch)
  broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
  operator = mask(np.array([True, False, False]))
  y = gdm.inverse.measure(operator, np.asarray(batch["x"][:1]), NOISE, KEY)
  with pytest.raises(NotFiniteError, match="GAN makes examples whose likelihood is NaN"):
    gdm.inverse.restore(model, broken, carry, operator, y, KEY, noise=NOISE, num=2)


def test_completion_keeps_what_a_mask_shows_and_is_the_models_own():
  model = small_model("made")
  batch = small_batch(model)
  params, carry = some_parameters(model, batch)
  x = batch["x"][:3]
  operator = mask(np.arange(16).reshape(4, 4) < 8)
  y = gdm.inverse.measure(operator, x, 0.0, KEY)
  found = gdm.inverse.restore(model, params, carry, operator, y, KEY, num=4)
  assert found.x.shape == (4, 3, 4, 4) and gdm.inverse.fitting(model) == ("completion",)
  np.testing.assert_array_equal(operator.forward(found.x[2].astype(jnp.float32)), y)
  known = np.asarray(operator.adjoint(jnp.ones((1, len(operator.index))))[0] > 0)
  alone = model.complete(params, carry, KEY, jnp.tile(jnp.asarray(x), (4, 1, 1)), known).x
  np.testing.assert_array_equal(found.x.reshape(alone.shape), alone)


@pytest.mark.parametrize(("name", "text", "settings", "message"), [
    ("made", "mask:0.5", {"sampler": "pigdm"}, "needs a denoiser; MADE has none: choose completion"),
    ("made", "mask:0.5", {"noise": 0.5}, "needs measurements without noise; set noise to 0"),
    ("made", "project:3", {}, "needs a mask, but the operator is"),
    ("maf", "mask:0.5", {}, "needs measurements with noise; set noise above 0"),
    ("maf", "mask:0.5", {"noise": 0.5, "num_steps": 3}, "sampler posterior has no setting 'num_steps'; leave it out"),
    ("maf", "mask:0.5", {"noise": 0.5, "sampler": "posteriro"}, "did you mean 'posterior'?"),
    ("integer_flow", "mask:0.5", {}, "has no denoiser to restore by, and neither completes")])
def test_what_models_cannot_do(name, text, settings, message):
  model = small_model(name)
  batch = small_batch(model)
  params, carry = some_parameters(model, batch)
  operator = operator_of(text, model.spec.event)
  y = gdm.inverse.measure(operator, np.asarray(batch["x"][:3]), 0.0, KEY)
  with pytest.raises((ConfigError, SpecError)) as error:
    gdm.inverse.restore(model, params, carry, operator, y, KEY, **settings)
  assert message in str(error.value)
