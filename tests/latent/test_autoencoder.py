"""An autoencoder comes back with what went in, takes noise off, and is no density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.evaluation.criteria import evaluate_criteria
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.ranking import scores
from gdm.latent.autoencoder import Autoencoder
from gdm.latent.networks.perceptrons import PerceptronDecoder, PerceptronEncoder
from gdm.latent.vae import VAE
from gdm.model import HasAnomalyScore, HasDenoise, HasLatent, HasLogLikelihood, HasSample, HasValidation

KEY = jax.random.key(0)
BITS, REALS = DataSpec((2, 3), 2), DataSpec((5,), None)
NETWORKS = {"encoder": PerceptronEncoder((8,)), "decoder": PerceptronDecoder((8,))}
STEP = jnp.zeros((), jnp.int32)


def bits(num, seed=0):
  return np.random.default_rng(seed).integers(0, 2, (num, 2, 3)).astype(np.uint8)


def reals(num, dims=2, seed=0):
  """Points of a plane in space, and a little noise."""
  rng = np.random.default_rng(seed)
  plane = rng.normal(size=(num, dims)) @ np.random.default_rng(9).normal(size=(dims, 5))
  return np.float32(plane + 0.1 * rng.normal(size=(num, 5)))


def built(spec=BITS, x=None, **fields):
  model = Autoencoder(spec, latent_dims=2, **{**NETWORKS, **fields})
  return model, *jax.jit(model.init)(KEY, {"x": bits(20) if x is None else x})


def trained(model, params, x, steps=1500, rate=0.1):
  """Gradient descent on all examples."""
  def step(params, key):
    grads = jax.grad(lambda params: model.loss(params, {}, {"x": x}, key, STEP).loss)(params)
    return jax.tree.map(lambda leaf, grad: leaf - rate * grad, params, grads), None

  return jax.jit(lambda params: jax.lax.scan(step, params, jax.random.split(KEY, steps))[0])(params)


def test_it_is_no_density_and_has_what_it_says():
  model, params, carry = built()
  for protocol in (HasLatent, HasDenoise, HasValidation, HasAnomalyScore):
    assert isinstance(model, protocol)
  for protocol in (HasLogLikelihood, HasSample):
    assert not isinstance(model, protocol)
  with pytest.raises(ConfigError, match=r"Autoencoder has no likelihood to evaluate.*What it has: .*latents"):
    evaluate_likelihood(model, params, carry, [{"x": bits(4)}], key=KEY)


def test_the_error_of_bits_is_the_log_probability_of_what_is_decoded():
  model, params, carry = built()
  x = bits(7, seed=1)
  z = model.encode(params, carry, {"x": x}, KEY)
  probs = np.asarray(model.decode(params, carry, z, KEY))
  expected = -np.log(np.where(x == 1, probs, 1 - probs)).reshape(7, -1).sum(axis=1)
  np.testing.assert_allclose(model.anomaly_score(params, carry, {"x": x}, KEY), expected, rtol=1e-4)
  np.testing.assert_allclose(model.loss(params, carry, {"x": x}, KEY, STEP).loss, expected.mean(), rtol=1e-4)


@pytest.mark.parametrize("spec, unit", [(REALS, 1.0), (DataSpec((5,), 9), 8.0)])
def test_the_squared_error_is_that_of_what_is_decoded_in_units_of_the_range(spec, unit):
  x = reals(6) if spec.levels is None else np.random.default_rng(0).integers(0, 9, (6, 5)).astype(np.uint8)
  model, params, carry = built(spec, x)
  made = model.decode(params, carry, model.encode(params, carry, {"x": x}, KEY), KEY)
  expected = np.square((np.asarray(made) - x) / unit).sum(axis=1)
  assert spec.levels is None or 0 <= np.min(made) <= np.max(made) < 8  # none is clipped
  np.testing.assert_allclose(model.anomaly_score(params, carry, {"x": x}, KEY), expected, rtol=1e-4, atol=1e-6)


def test_a_vae_without_the_cost_of_its_latents_is_an_autoencoder():
  """With beta = 0 and a posterior of no width the losses are equal, and so are their gradients."""
  x = bits(20)
  model, params, _ = built(x=x)
  vae = VAE(BITS, latent_dims=2, beta=0.0, **NETWORKS)
  network = params["encoder"]["network"]["network"]
  narrow = {**network, "output_kernel": jnp.pad(network["output_kernel"], ((0, 0), (0, 2))),
            "bias": jnp.concatenate([network["bias"], jnp.full((2, 1), -30.0)])}
  ours = {"encoder": {"network": {"network": narrow}, "posterior": {}},
          "decoder": {"network": params["decoder"]["network"], "output": {"bias": params["decoder"]["bias"]}}}

  def graded(model, params):
    return jax.jit(jax.value_and_grad(lambda params: model.loss(params, {}, {"x": x}, KEY, STEP).loss))(params)

  theirs, ours = graded(model, params), graded(vae, ours)
  np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-3)
  for at in (("decoder", "network", "network", "output_kernel"), ("encoder", "network", "network", "hidden_0_kernel")):
    one, other = ours[1], theirs[1]
    for name in at:
      one, other = one[name], other[name]
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_linear_one_finds_the_principal_plane():
  x = reals(200)
  model, params, carry = built(REALS, x, encoder=PerceptronEncoder(()), decoder=PerceptronDecoder(()))
  found = trained(model, params, x, steps=2000, rate=0.02)
  least = np.linalg.eigvalsh(np.cov(x.T.astype(np.float64), bias=True))[:3].sum()
  error = np.asarray(model.anomaly_score(found, carry, {"x": x}, KEY)).mean()
  assert least - 1e-4 < error < least + 0.01


def test_denoising_moves_noised_examples_towards_clean_ones():
  x = reals(300, dims=1)
  model, params, carry = built(REALS, x, noise=0.7)
  found = trained(model, params, x, rate=0.03)
  noised = x + np.float32(0.7) * np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
  made = np.asarray(model.denoise(found, carry, KEY, jnp.asarray(noised), 0.7).x)
  assert np.square(made - x).mean() < 0.6 * np.square(noised - x).mean()


def test_corruption_drops_to_the_middle_and_adds_noise_in_the_datas_units():
  spec = DataSpec((400,), 9)
  model = Autoencoder(spec, drop=0.25, **NETWORKS)
  inputs = model._inputs(np.full((50, 400), 8))
  dropped = np.asarray(model._corrupted(inputs, KEY))
  assert set(np.unique(dropped)) == {0.0, 1.0} and abs((dropped == 0).mean() - 0.25) < 0.02
  noised = Autoencoder(spec, noise=2.0, **NETWORKS)._corrupted(inputs, KEY)
  assert np.std(np.asarray(noised) - 1.0) == pytest.approx(2.0 * 2.0 / 8.0, rel=0.02)


def test_validation_is_the_mean_over_real_examples_with_and_without_corruption():
  model, params, carry = built(drop=0.3)
  x = bits(10)
  padded = [{"x": x[:6], "mask": np.ones(6)}, {"x": np.concatenate([x[6:], x[:2]]), "mask": np.arange(6) < 4}]
  found = evaluate_criteria(model, params, carry, padded, key=KEY)
  assert set(found) == {"error", "clean_error"} and model.criterion in found
  clean = np.asarray(model.anomaly_score(params, carry, {"x": x}, KEY))
  assert found["clean_error"] == pytest.approx(clean.mean(), rel=1e-5)
  assert found["error"] != pytest.approx(clean.mean(), rel=1e-5)
  assert set(evaluate_criteria(built()[0], params, carry, [{"x": x}], key=KEY)) == {"error"}


def test_what_is_unlike_the_data_ranks_below_it():
  x = reals(300)
  model, params, carry = built(REALS, x)
  found = trained(model, params, x, rate=0.02)
  other = np.random.default_rng(3).normal(size=(100, 5)).astype(np.float32) * 2
  inside, outside = (scores(model, found, carry, each, KEY, 100) for each in (reals(100, seed=1), other))
  assert np.median(inside) > np.quantile(outside, 0.9)


@pytest.mark.parametrize("spec, fields, error, words", [
    (REALS, {"error": "cross_entropy"}, SpecError, "cross_entropy.*continuous"),
    (DataSpec((4,), 9), {"error": "cross_entropy"}, SpecError, "cross_entropy"),
    (BITS, {"error": "l1"}, ConfigError, "error is 'l1'; .*squared_error"),
    (BITS, {"latent_dims": 0}, ConfigError, "latent_dims is 0"),
    (BITS, {"noise": -1.0}, ConfigError, "noise is -1.0; it must be at least 0"),
    (BITS, {"drop": 1.0}, ConfigError, "drop is 1.0; it must be at least 0 and below 1"),
])
def test_what_it_cannot_be_is_refused(spec, fields, error, words):
  with pytest.raises(error, match=words):
    Autoencoder(spec, **fields)


def test_latents_of_another_shape_and_bad_examples_are_refused():
  model, params, carry = built()
  with pytest.raises(SpecError, match=r"latent has shape \(4, 3\); it must be \(batch, 2\)"):
    model.decode(params, carry, jnp.zeros((4, 3)), KEY)
  assert np.isnan(model.anomaly_score(params, carry, {"x": np.full((1, 2, 3), 7, np.uint8)}, KEY)).all()
