"""Probabilistic PCA is a Gaussian of its covariance, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.decomposition
from helpers.enumeration import Batches, log_probs

from gdm.dataspec import DataSpec
from gdm.latent.networks.perceptrons import PerceptronDecoder, PerceptronEncoder
from gdm.latent.outputs import GaussianOutput
from gdm.latent.posteriors import Full
from gdm.latent.ppca import PPCA
from gdm.latent.vae import VAE

KEY = jax.random.key(0)
SPEC = DataSpec((5,), None)


def correlated(num, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num, 2)) @ np.random.default_rng(5).normal(size=(2, 5)) + 0.5 * rng.normal(size=(num, 5))
  return np.float32(x + 3)


def test_the_likelihood_is_sklearns():
  x, fresh = correlated(500), correlated(300, seed=1)
  model = PPCA(SPEC, 2)
  params, carry = model.solve(KEY, Batches(x, size=200))
  theirs = sklearn.decomposition.PCA(2).fit(x.astype(np.float64))
  theirs.explained_variance_ *= 499 / 500  # theirs divides by n - 1
  theirs.noise_variance_ *= 499 / 500
  np.testing.assert_allclose(log_probs(model, params, carry, fresh), theirs.score_samples(fresh.astype(np.float64)),
                             atol=1e-3)


def test_no_other_noise_or_loadings_are_likelier():
  x = correlated(500)
  model = PPCA(SPEC, 2)
  params, carry = model.solve(KEY, Batches(x))
  best, rng = log_probs(model, params, carry, x).mean(), np.random.default_rng(0)
  for scale in (0.01, 0.1):
    own = params["model"]
    moved = {"mean": own["mean"] + scale * rng.normal(size=5), "variance": own["variance"] * np.exp(scale),
             "loadings": own["loadings"] + scale * rng.normal(size=(5, 2))}
    assert log_probs(model, {"model": jax.tree.map(jnp.float32, moved)}, carry, x).mean() < best


def linear_vae():
  return VAE(SPEC, latent_dims=2, encoder=PerceptronEncoder(hidden=()), decoder=PerceptronDecoder(hidden=()),
             posterior=Full(), output=GaussianOutput(scale="shared", floor=1e-3))


def as_vae(params, x):
  """Parameters of the linear VAE that is the PPCA model, its posterior exact."""
  model = linear_vae()
  fresh, _ = jax.eval_shape(model.init, KEY, {"x": x})
  own = {name: np.asarray(value, np.float64) for name, value in params["model"].items()}
  precision = np.eye(2) + own["loadings"].T @ own["loadings"] / own["variance"][0]
  gain = np.linalg.solve(precision, own["loadings"].T) / own["variance"][0]
  factor = np.linalg.cholesky(np.linalg.inv(precision))
  floor = -8.0  # of log-scales, smooth
  raw = floor + np.log(np.expm1(np.log(np.diagonal(factor)) - floor))
  kernel = np.concatenate([gain.T, np.zeros((5, 3))], axis=1)
  encoder = {"output_kernel": kernel, "bias": np.r_[-gain @ own["mean"], raw, factor[1, 0]][:, None]}
  decoder = {"output_kernel": own["loadings"].T, "bias": np.zeros((5, 1))}
  scale = own["variance"][0]**0.5 - 1e-3
  made = {"encoder": {"network": {"network": encoder}, "posterior": {}},
          "decoder": {"network": {"network": decoder},
                      "output": {"bias": own["mean"], "scale": np.log(np.expm1(scale))}}}
  made = jax.tree.map(jnp.float32, made)
  assert jax.tree.map(jnp.shape, made) == jax.tree.map(lambda leaf: leaf.shape, fresh)
  return model, made


def test_the_bound_of_a_linear_vae_with_the_exact_posterior_is_the_likelihood():
  x = correlated(300)
  ppca = PPCA(SPEC, 2)
  params, carry = ppca.solve(KEY, Batches(x))
  model, made = as_vae(params, x)
  np.testing.assert_allclose(log_probs(model, made, {}, x), log_probs(ppca, params, carry, x), atol=2e-3)


def test_the_bound_of_a_linear_vae_is_never_above_the_likelihood():
  x = correlated(300)
  ppca = PPCA(SPEC, 2)
  params, carry = ppca.solve(KEY, Batches(x))
  most = log_probs(ppca, params, carry, x).mean()
  model, made = as_vae(params, x)
  many = np.repeat(x, 30, axis=0)  # a draw each: the mean of one draw's log-weight is the ELBO
  leaves, tree = jax.tree.flatten(made)
  for seed, scale in enumerate((0.03, 0.1, 0.3)):
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [leaf + scale * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    assert log_probs(model, jax.tree.unflatten(tree, moved), {}, many).mean() < most


@pytest.mark.slow
def test_a_trained_linear_vae_reaches_the_likelihood():
  x = correlated(300)
  ppca = PPCA(SPEC, 2)
  params, carry = ppca.solve(KEY, Batches(x))
  most = log_probs(ppca, params, carry, x).mean()
  model, steps = linear_vae(), 4000
  optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps))

  @jax.jit
  def train(params, key):
    def step(state, key):
      params, moments = state
      grads = jax.grad(lambda params: model.loss(params, {}, {"x": x}, key, jnp.zeros(())).loss)(params)
      updates, moments = optimizer.update(grads, moments)
      return (optax.apply_updates(params, updates), moments), None

    return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))[0][0]

  reached = log_probs(model, train(model.init(KEY, {"x": x})[0], KEY), {}, x).mean()
  assert most - 0.01 < reached < most + 1e-4
