"""Restoring by a model: what is returned, kept and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_models import small_batch, small_model, some_parameters

import gdm.inverse
from gdm.errors import ConfigError, DataError, SpecError
from gdm.inverse import restoration
from gdm.inverse.operators import operator_of
from gdm.inverse.problem import require_memory
from gdm.model import HasDenoiser

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def images():
  """A small DDPM of images with its parameters, and examples."""
  model = small_model("ddpm")
  batch = small_batch(model)
  return model, *some_parameters(model, batch), batch["x"][:3]


def restored(images, text="mask:0.5", noise=0.0, **settings):
  model, params, carry, x = images
  operator = operator_of(text, model.spec.event)
  y = gdm.inverse.measure(operator, x, noise, KEY)
  return gdm.inverse.restore(model, params, carry, operator, y, KEY, noise=noise, **settings), operator, y


@pytest.mark.fast_cases("particles")
@pytest.mark.parametrize("sampler", [
    pytest.param(name, marks=() if name in ("particles", "ddrm") else pytest.mark.slow)
    for name in gdm.inverse.SAMPLERS])
def test_draws_are_as_served_and_keep_what_was_measured(images, sampler):
  more = {"num_particles": 5} if sampler in ("particles", "twisted") else {}
  if sampler == "twisted":
    more["noise"] = 0.1
  found, operator, y = restored(images, sampler=sampler, num=4, num_steps=5, **more)
  assert found.x.shape == (4, 3, 3, 3, 1) and found.mean.shape == found.deviation.shape == (3, 3, 3, 1)
  assert jnp.issubdtype(found.x.dtype, jnp.integer) and found.x.min() >= 0 and found.x.max() <= 2
  if sampler not in ("dps", "twisted"):
    np.testing.assert_allclose(operator.forward(found.mean), y, atol=1e-3)
    np.testing.assert_allclose(operator.forward(found.x[0].astype(jnp.float32)), y, atol=1e-3)


@pytest.mark.slow
def test_the_denoiser_of_a_model_is_its_prediction(images):
  model, params, carry, x = images
  assert isinstance(model, HasDenoiser) and not isinstance(small_model("made"), HasDenoiser)
  denoiser = model.denoising(params, carry)
  np.testing.assert_allclose(denoiser.values(x), x - 1.0)  # levels 0 to 2 as -1 to 1
  np.testing.assert_allclose(denoiser.data(denoiser.values(x)), x)
  path = model.stepping_path(params)
  values, t = denoiser.values(x), jnp.full(3, 0.4)
  np.testing.assert_allclose(denoiser.mean(values, t), model.denoiser(params, path)(values, t), rtol=1e-5)
  assert denoiser.limits == (-1.0, 1.0) and denoiser.ends == path.ends


@pytest.mark.slow
def test_conditions_go_with_their_measurements():
  model = small_model("edm")
  batch = small_batch(model)
  params, carry = some_parameters(model, batch)
  x, y = jnp.asarray(batch["x"][:4]), np.array([0, 1])
  denoiser = model.denoising(params, carry, 2, y)
  apart = [model.denoising(params, carry, 1, y[i:i + 1]).mean(x[i::2], jnp.full(2, 0.01)) for i in (0, 1)]
  np.testing.assert_allclose(denoiser.mean(x, jnp.full(4, 0.01)), np.stack(apart, 1).reshape(x.shape), rtol=1e-5)
  assert model.denoising(params, carry, 2, y, guidance=2.0).cost == 2
  operator = operator_of("mask:0.5", model.spec.event)
  measured = gdm.inverse.measure(operator, x, 0.1, KEY)
  found = gdm.inverse.restore(model, params, carry, operator, measured, KEY, noise=0.1, sampler="ddrm", num=2,
                              condition=np.array([0, 1, 1, 0]), num_steps=3)
  assert found.x.shape == (2, 4, 3) and np.all(np.isfinite(found.x))


@pytest.mark.slow
def test_one_program_serves_operators_of_one_shape(images):
  before = len(restoration._compiled)
  for seed in (0, 1, 2):
    model, params, carry, x = images
    operator = operator_of("mask:0.7", model.spec.event, seed)
    y = gdm.inverse.measure(operator, x, 0.0, KEY)
    gdm.inverse.restore(model, params, carry, operator, y, KEY, sampler="ddrm", num=2, num_steps=2)
  assert len(restoration._compiled) == before + 1


@pytest.mark.slow
def test_memory_is_that_of_the_particles(images):
  model, params, carry, x = images
  operator = operator_of("mask:0.7", model.spec.event)
  y = gdm.inverse.measure(operator, x, 0.0, KEY)
  needed = [gdm.inverse.restore(model, params, carry, operator, y, KEY, sampler="particles", num=1, num_steps=2,
                                num_particles=num).temporary_bytes for num in (8, 64)]
  assert needed[1] > 4 * needed[0] > 0


@pytest.mark.parametrize(("text", "settings", "message"), [
    ("mask:0.5", {"sampler": "ddmr"}, "did you mean 'ddrm'?"), ("mask:0.5", {"num": 0}, "num is 0"),
    ("quantize:1", {"sampler": "ddrm"}, "Quantization is not linear; choose dps"),
    ("mask:0.5", {"sampler": "repaint", "noise": 0.5}, "takes measurements as exact; set noise to 0"),
    ("mask:0.5", {"sampler": "twisted"}, "noise is 0, but sampler 'twisted' needs measurements with noise"),
    ("mask:0.5", {"sampler": "replacement", "noise": 0.5}, "takes measurements as exact"),
    ("mask:0.5", {"noise": -1.0}, "noise is -1.0"), ("mask:0.5", {"num_step": 5}, "did you mean 'num_steps'?"),
    ("mask:0.5", {"num_steps": 0}, "num_steps is 0"), ("mask:0.5", {"eta": 1.5}, "eta is 1.5; it must be at most 1"),
    ("mask:0.5", {"sampler": "particles", "num_particles": 1}, "num_particles is 1; it must be at least 2"),
    ("mask:0.5", {"sampler": "particles", "num_particles": 10**11}, "GiB are free; set it to at most"),
    ("mask:0.5", {"guidance": 2.0}, "guidance is 2.0, which needs labels")])
def test_what_cannot_be_restored(images, text, settings, message):
  with pytest.raises((ConfigError, SpecError)) as error:
    restored(images, text, **settings)
  assert message in str(error.value)


def test_a_model_that_completes_by_itself_takes_no_guidance():
  model = small_model("made")
  operator = operator_of("mask:0.5", model.spec.event)
  with pytest.raises(ConfigError, match="guidance is 2, but completion takes none"):
    gdm.inverse.restore(model, {}, {}, operator, np.zeros((1, *operator.measured)), KEY, guidance=2.0)


def test_measurements_that_cannot_be(images):
  model, params, carry, x = images
  operator = operator_of("mask:0.5", model.spec.event)
  y = np.asarray(operator.forward(jnp.asarray(x, jnp.float32)))
  with pytest.raises(SpecError, match=r"must be \(number, 4\)|must be \(number, 5\)"):
    gdm.inverse.restore(model, params, carry, operator, y[:, :-1], KEY)
  with pytest.raises(DataError, match="measurement 1 holds NaN"):
    gdm.inverse.restore(model, params, carry, operator, np.where(np.arange(3)[:, None] == 1, np.nan, y), KEY)
  other = operator_of("mask:0.5", (4, 4, 1))
  with pytest.raises(SpecError, match="of events"):
    gdm.inverse.restore(model, params, carry, other, np.zeros((3, 8), np.float32), KEY)
  with pytest.raises(SpecError, match="of events"):
    gdm.inverse.measure(other, x, 0.0, KEY)


def test_too_many_particles_are_told_how_many_fit():
  with pytest.raises(ConfigError, match="set it to at most 250, or restore fewer"):
    require_memory(4 * 2**30, 2**30, 1000)
  require_memory(2**30, None, 1000)
  require_memory(2**29, 2**30, 1000)
