"""VQ-VAE: the codebook's truths, its bound, its codes, and the prior beside it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_models import some_parameters

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, SpecError
from gdm.evaluation.coding.codes import CodesCoder
from gdm.evaluation.coding.ways import way_of
from gdm.latent import codebook as codebooks
from gdm.latent.networks.codes import GridDecoder, GridEncoder
from gdm.latent.vqvae import VQVAE
from gdm.likelihood import Kind
from gdm.model import HasCodes, HasLatent, HasLogLikelihood, HasSample, Model
from gdm.runs.registry import build_model

BITS, LEVELS = DataSpec((3, 3, 1), 2), DataSpec((3, 3, 3), 3)
NETWORKS = {"encoder": GridEncoder((4, 4), 1), "decoder": GridDecoder((4, 4), 1)}
MADE = {"name": "made", "network": {"hidden": (8,)}}


@functools.cache
def made(spec=BITS, num_codes=4, with_prior=True):
  """A VQ-VAE with parameters far from where they start."""
  codes = DataSpec((2, 2, 1), num_codes)
  model = VQVAE(spec, num_codes, 3, prior=build_model(MADE, codes) if with_prior else None, **NETWORKS)
  params, carry = some_parameters(model, {"x": examples(spec, 40)})
  return model, params, carry


def examples(spec, num):
  return np.random.default_rng(0).integers(0, spec.levels, (num, *spec.event)).astype(np.uint8)


# The codebook


def test_the_straight_through_gradient_is_the_one_at_the_codes():
  outputs, vectors = jnp.array([[0.3, -1.0]]), jnp.array([[0.5, 2.0]])

  def cost(z):
    return jnp.sum(jnp.sin(z) * z)

  value, gradient = jax.value_and_grad(lambda z: cost(codebooks.straight_through(z, vectors)))(outputs)
  np.testing.assert_allclose(value, cost(vectors), rtol=1e-6)
  np.testing.assert_allclose(gradient, jax.grad(cost)(vectors), rtol=1e-6)


def test_codes_are_the_nearest_vectors():
  rng = np.random.default_rng(0)
  outputs, vectors = rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32)
  found = codebooks.nearest({"counts": jnp.full(7, 2.0), "sums": jnp.asarray(2.0 * vectors)}, jnp.asarray(outputs))
  np.testing.assert_array_equal(found.codes, np.argmin(((outputs[:, None] - vectors)**2).sum(axis=2), axis=1))
  np.testing.assert_allclose(found.vectors, vectors[np.asarray(found.codes)], rtol=1e-6)


def test_running_averages_tend_to_the_means_of_k_means():
  outputs = jnp.asarray(np.random.default_rng(0).normal(size=(64, 2)) + 3.0 * (np.arange(64) % 2)[:, None], jnp.float32)
  codebook = codebooks.init(jax.random.key(1), outputs, 3)
  step = jax.jit(lambda book: codebooks.updated(book, outputs, codebooks.nearest(book, outputs).codes, 0.8, 0.0,
                                                jax.random.key(0)))
  for _ in range(200):
    codebook = step(codebook)
  codes = np.asarray(codebooks.nearest(codebook, outputs).codes)
  for code in range(3):
    np.testing.assert_allclose(codebooks.vectors_of(codebook)[code], outputs[codes == code].mean(axis=0), rtol=1e-4)
  np.testing.assert_allclose(codebook["counts"], np.bincount(codes, minlength=3) * 3 / 64, rtol=1e-4)


def test_dead_codes_are_put_onto_outputs_and_unused_ones_keep_their_vectors():
  outputs = jnp.asarray(np.random.default_rng(0).normal(size=(20, 2)), jnp.float32)
  codebook = {"counts": jnp.array([1.0, 0.01, 1e-7]), "sums": jnp.array([[1.0, 1.0], [1.0, 1.0], [1e-4, 1e-4]])}
  zeros = jnp.zeros(20, jnp.int32)
  alive = codebooks.updated(codebook, outputs, zeros, 0.9, 0.0, jax.random.key(0))
  np.testing.assert_allclose(codebooks.vectors_of(alive)[1:], codebooks.vectors_of(codebook)[1:], rtol=1e-5)
  revived, again = (codebooks.updated(codebook, outputs, zeros, 0.9, 0.05, jax.random.key(0)) for _ in range(2))
  assert all((np.asarray(outputs) == vector).all(axis=1).any() for vector in codebooks.vectors_of(revived)[1:])
  np.testing.assert_array_equal(revived["sums"], again["sums"])
  np.testing.assert_array_equal(revived["counts"][1:], [1.0, 1.0])
  np.testing.assert_array_equal(revived["sums"][0], alive["sums"][0])


def test_perplexity_counts_codes_that_are_used_alike():
  np.testing.assert_allclose(codebooks.perplexity(jnp.array([[0, 1], [2, 3]]), 6), 4.0, rtol=1e-5)
  np.testing.assert_allclose(codebooks.perplexity(jnp.array([5, 5]), 6), 1.0, rtol=1e-5)


# The model


@pytest.mark.slow
def test_it_offers_what_it_can():
  for protocol in (Model, HasLogLikelihood, HasSample, HasLatent, HasCodes):
    assert isinstance(made()[0], protocol)


@pytest.mark.fast_cases("True")
@pytest.mark.parametrize("with_prior", [True, False])
def test_the_bounds_of_all_examples_add_up_to_one_at_most(with_prior):
  model, params, carry = made(with_prior=with_prior)
  every = np.array(list(itertools.product((0, 1), repeat=9)), np.uint8).reshape(-1, 3, 3, 1)
  scored = jax.jit(model.log_likelihood)(params, carry, {"x": every}, jax.random.key(0))
  assert scored.kind is Kind.LOWER_BOUND and scored.unbiased
  total = float(np.sum(np.exp(np.asarray(scored.nats, np.float64))))
  assert 0.0 < total <= 1.0 + 1e-5
  np.testing.assert_allclose(scored.nats, scored.details["reconstruction"] + scored.details["codes"], rtol=1e-6)


def test_a_prior_has_probabilities_of_codes_and_samples_of_them():
  model, params, carry = made()
  every = np.array(list(itertools.product(range(4), repeat=4)), np.uint8).reshape(-1, 2, 2, 1)
  prior = model.prior
  assert isinstance(prior, HasLogLikelihood)
  own = jax.jit(prior.log_likelihood)(*model.of_code_model(params, carry), {"x": every}, jax.random.key(0))
  np.testing.assert_allclose(np.sum(np.exp(np.asarray(own.nats, np.float64))), 1.0, rtol=1e-4)
  drawn = jax.jit(lambda: model.sample(params, carry, jax.random.key(0), 6, temperature=0.0))()
  assert drawn.x.shape == (6, 3, 3, 1) and drawn.info["codes"].shape == (6, 2, 2, 1)
  mean = model.decode(params, carry, drawn.info["codes"], jax.random.key(0))
  np.testing.assert_array_equal(drawn.x, np.round(mean))


def test_codes_come_back_from_vectors_that_are_the_codebooks_own():
  model, params, carry = made()
  codes = model.encode(params, carry, {"x": examples(BITS, 10)}, jax.random.key(0))
  again = codebooks.nearest(carry["statistics"]["codebook"],
                            codebooks.vectors_of(carry["statistics"]["codebook"])[codes[..., 0]]).codes
  np.testing.assert_array_equal(codes[..., 0], again)


def test_the_prior_moves_nothing_of_the_autoencoder_nor_it_the_prior():
  model, params, carry = made()
  for objective in model.objectives:
    def cost(params, objective=objective):
      return objective.loss(params, carry, {"x": examples(BITS, 8)}, jax.random.key(0), jnp.int32(0)).loss

    gradient = jax.jit(jax.grad(cost))(params)
    moved = {group for group, tree in gradient.items() if any(np.any(leaf) for leaf in jax.tree.leaves(tree))}
    assert moved == set(objective.groups)
  assert [objective.groups for objective in model.objectives] == [("encoder", "decoder"), ("prior_model",)]


# Coding


@pytest.mark.slow
def test_examples_come_back_at_the_price_of_the_bound():
  model, params, carry = made(LEVELS)
  x = np.asarray(jax.jit(lambda: model.sample(params, carry, jax.random.key(1), 12).x)(), np.uint8)
  coder = CodesCoder(model, params, carry, 8)
  words = coder.encode(x)
  np.testing.assert_array_equal(coder.decode(words, len(x))[0], x)
  claimed = -float(np.sum(jax.jit(model.log_likelihood)(params, carry, {"x": x}, jax.random.key(0)).nats)) / np.log(2.0)
  assert abs(32 * len(words) - claimed) < 3 * 72
  with pytest.raises(DataError, match="more bits than its examples take"):
    coder.decode(words, len(x) - 1)


# What is refused


def test_bad_settings_are_named():
  x = {"x": examples(BITS, 2)}
  with pytest.raises(ConfigError, match="num_codes is 9, but the encoder makes 8 vectors"):
    VQVAE(BITS, 9, 3, **NETWORKS).init(jax.random.key(0), x)
  with pytest.raises(SpecError, match="need images"):
    VQVAE(DataSpec((9,), 2))
  with pytest.raises(ConfigError, match=r"decoder\.widths 3"):
    VQVAE(BITS, 4, encoder=GridEncoder((4, 4)))
  with pytest.raises(ConfigError, match="both must be the same"):
    VQVAE(BITS, 4, 3, prior=build_model(MADE, DataSpec((2, 2, 1), 5)), **NETWORKS)
  with pytest.raises(ConfigError, match="not trained by steps"):
    VQVAE(BITS, 4, 3, prior=build_model({"name": "independent"}, DataSpec((2, 2, 1), 4)), **NETWORKS)
  with pytest.raises(ConfigError, match=r"model\.prior is None"):
    way_of(made(with_prior=False)[0])
  model, params, carry = made()
  with pytest.raises(SpecError, match=r"latent has shape \(1, 2, 3, 1\); it must be \(batch, 2, 2, 1\)"):
    model.decode(params, carry, jnp.zeros((1, 2, 3, 1), jnp.int32), jax.random.key(0))
  with pytest.raises(ConfigError, match="num_samples is 2, but VQVAE is coded without any draw"):
    way_of(model, 2)
