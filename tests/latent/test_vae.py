"""A VAE's numbers are bounds of a probability, tighten to it, and its estimators agree."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers.enumeration import all_states
from helpers.small_models import some_parameters

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.latent.networks.perceptrons import PerceptronDecoder, PerceptronEncoder
from gdm.latent.outputs import GaussianOutput
from gdm.latent.posteriors import Full, InverseAutoregressive
from gdm.latent.vae import VAE
from gdm.likelihood import Kind
from gdm.networks.from_data import from_data
from gdm.runs.registry import build_model

BITS, KEY = DataSpec((4,), 2), jax.random.key(0)
NETWORKS = {"encoder": {"name": "mlp", "hidden": (8,)}, "decoder": {"name": "mlp", "hidden": (8,)}}


def small(spec=BITS, **fields):
  return build_model({"name": "vae", "latent_dims": 2, **NETWORKS, **fields}, spec)


def bits(num=16, dims=4):
  return {"x": np.random.default_rng(0).integers(0, 2, (num, dims))}


class Linear(nn.Module):
  """A linear encoder or decoder, with everything that either is told of the data."""

  places: tuple[int, ...] = from_data(())
  outputs: int = from_data(1)

  @nn.compact
  def __call__(self, x, context=None):
    shape = (x.shape[0], *self.places, self.outputs)
    return nn.Dense(math.prod(shape[1:]))(x.reshape(x.shape[0], -1)).reshape(shape)


@pytest.fixture(scope="module")
def linear():
  """A linear-Gaussian model with its exact posterior, whose p(x) is a Gaussian; and that with a worse posterior."""
  dims, latents, scale = 4, 2, 0.5
  model = VAE(DataSpec((dims,), None), latent_dims=latents, encoder=Linear(), decoder=Linear(), posterior=Full(),
              output=GaussianOutput("shared", floor=1e-3))
  rng = np.random.default_rng(0)
  weights, mean = rng.normal(size=(latents, dims)), rng.normal(size=dims)
  params, carry = model.init(KEY, {"x": rng.normal(size=(8, dims)).astype(np.float32)})
  # p(z | x) = N(S W (x - mean) / s^2, S) with S = (I + W W' / s^2)^-1 (Tipping and Bishop, 1999, equation 6).
  covariance = np.linalg.inv(np.eye(latents) + weights @ weights.T / scale**2)
  slope, factor = (covariance @ weights / scale**2).T, np.linalg.cholesky(covariance)
  kernel = np.concatenate([slope, np.zeros((dims, latents + 1))], axis=1)
  log_scales = np.log(np.diag(factor)) + 8.0  # the inverse of the smooth floor
  bias = np.concatenate([-mean @ slope, np.log(np.expm1(log_scales)) - 8.0, factor[1:, 0]])

  def dense(kernel, bias):
    return {"Dense_0": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}

  params = {
      "encoder": {**params["encoder"], "network": dense(kernel, bias)},
      "decoder": {"network": dense(weights, np.zeros(dims)),
                  "output": {"bias": jnp.float32(mean), "scale": jnp.float32(np.log(np.expm1(scale - 1e-3)))}}}
  worse = jax.tree.map(lambda leaf: leaf, params)
  worse["encoder"]["network"] = dense(0.7 * kernel, bias + 0.3)
  law = scipy.stats.multivariate_normal(mean, weights.T @ weights + scale**2 * np.eye(dims))
  return model, params, worse, carry, law


def test_with_the_exact_posterior_every_weight_is_the_probability(linear):
  model, params, _, carry, law = linear
  x = law.rvs(6, random_state=1).astype(np.float32)
  found = model.log_likelihood(params, carry, {"x": x}, KEY)
  np.testing.assert_allclose(found.nats, law.logpdf(x), rtol=1e-4, atol=1e-3)
  np.testing.assert_allclose(found.details["kl"], found.details["reconstruction"] - found.details["elbo"], rtol=1e-4)


def test_bounds_rise_from_below_with_more_draws_and_with_annealing(linear):
  model, _, params, carry, law = linear
  x = law.rvs(300, random_state=2).astype(np.float32)
  truth = law.logpdf(x).mean()
  def score(model, k=1):
    return jax.jit(lambda: model.log_likelihood(params, carry, {"x": x}, KEY, num_samples=k))()

  means = [float(jnp.mean(score(model, k).nats)) for k in (1, 5, 50, 500)]
  assert means == sorted(means)
  assert means[0] < truth - 0.3 and abs(means[-1] - truth) < 0.05
  few, many = (score(model.scored_by("annealed", num_temperatures=num, step_size=0.5)) for num in (2, 100))
  assert means[0] < float(jnp.mean(few.nats)) < float(jnp.mean(many.nats)) < truth + 0.02
  assert float(jnp.mean(many.nats)) > truth - 0.1
  assert 0.5 < float(jnp.mean(many.details["acceptance"])) <= 1.0


@pytest.mark.slow
def test_simulated_examples_are_bracketed(linear):
  model, _, params, carry, law = linear
  model = dataclasses.replace(model, step_size=0.6)
  ends = {num: [float(end.mean()) for end in jax.jit(model.simulated_bracket, static_argnums=(3, 4))(
      params, carry, KEY, 400, num)] for num in (2, 100)}
  truth = -law.entropy()
  assert ends[2][0] < ends[100][0] < truth + 0.3 and truth - 0.3 < ends[100][1] < ends[2][1]
  assert 0.0 < ends[100][1] - ends[100][0] < 0.15 < ends[2][1] - ends[2][0]
  with pytest.raises(ConfigError, match="a bracket needs"):
    small(posterior={"name": "iaf"}).simulated_bracket({}, {}, KEY, 2, 2)


def test_the_mean_of_details_is_the_elbo(linear):
  model, _, params, carry, law = linear
  x = law.rvs(4, random_state=3).astype(np.float32)

  @functools.partial(jax.jit, static_argnums=1)
  def score(key, num):
    return model.log_likelihood(params, carry, {"x": x}, key, num_samples=num)

  found = score(KEY, 4000)
  single = np.stack([score(key, 1).nats for key in jax.random.split(KEY, 1000)])
  error = single.std(0) / 1000**0.5
  assert np.all(np.abs(found.details["elbo"] - single.mean(0)) < 5 * error)
  assert bool(jnp.all(found.nats >= found.details["elbo"]))


@pytest.mark.fast_cases("fields2")
@pytest.mark.parametrize("fields", [
    {}, {"posterior": {"name": "iaf", "num_layers": 1, "hidden": (4,), "context": 2}},
    {"prior": {"name": "vamp", "size": 3}}, *(pytest.param(fields, marks=pytest.mark.slow) for fields in (
        {"posterior": {"name": "full"}}, {"prior": {"name": "mixture", "size": 3}},
        {"prior": {"name": "maf", "num_layers": 1, "hidden": (4,)}}))])
def test_the_sum_of_the_bounds_over_a_space_rises_to_one_from_below(fields):
  spec = DataSpec((10,), 2)
  model, states = small(spec, **fields), all_states(2, 10)
  params, carry = some_parameters(model, bits(64, 10))
  params["encoder"] = jax.tree.map(lambda leaf: 0.1 * leaf, params["encoder"])  # a posterior near the prior
  found = jax.jit(lambda: model.log_likelihood(params, carry, {"x": states}, KEY, num_samples=1000))()
  assert found.kind is Kind.LOWER_BOUND and found.unbiased
  sums = [float(np.exp(np.asarray(each, np.float64)).sum()) for each in (found.details["elbo"], found.nats)]
  assert sums[0] < sums[1] == pytest.approx(1.0, abs=0.02)


@pytest.mark.slow
def test_samples_follow_the_bound():
  model = small()
  params, carry = some_parameters(model, bits())
  states = all_states(2, 4)
  drawn = np.asarray(model.sample(params, carry, KEY, 20_000).x) @ (2 ** np.arange(4)[::-1])
  probs = np.exp(jax.jit(lambda: model.log_likelihood(params, carry, {"x": states}, KEY, num_samples=2000).nats)())
  np.testing.assert_allclose(np.bincount(drawn, minlength=16) / 20_000, probs, atol=0.02)


@pytest.mark.slow
def test_the_estimators_of_the_gradient_agree_in_mean():
  plain = small(num_samples=3)
  params, carry = some_parameters(plain, bits())
  batch = bits(4)

  def gradients(model):
    def one(key):
      return jax.grad(lambda params: model.loss(params, carry, batch, key, jnp.zeros((), int)).loss)(params)

    found = jax.jit(jax.vmap(one))(jax.random.split(KEY, 1000))
    flat = [np.concatenate([np.asarray(leaf).reshape(1000, -1) for leaf in jax.tree.leaves(found[group])], axis=1)
            for group in ("encoder", "decoder")]
    return flat

  doubly = dataclasses.replace(plain, gradient="doubly_reparametrized")
  by_plain, by_doubly = gradients(plain), gradients(doubly)
  assert by_doubly[0].var(0).sum() < by_plain[0].var(0).sum()  # of the encoder: what the estimator is for
  for mine, theirs in zip(by_plain, by_doubly, strict=True):
    error = np.sqrt((mine.var(0) + theirs.var(0)) / 1000)
    z = (mine.mean(0) - theirs.mean(0)) / np.maximum(error, 1e-9)
    assert np.sqrt(np.mean(np.square(z))) < 1.3 and np.abs(z).max() < 6.0
  assert doubly.loss(params, carry, batch, KEY, jnp.zeros((), int)).loss == pytest.approx(
      float(plain.loss(params, carry, batch, KEY, jnp.zeros((), int)).loss), rel=1e-5)


def test_without_weight_the_divergence_costs_nothing():
  plain, step = small(beta=0.0), jnp.zeros((), int)
  params, carry = some_parameters(plain, bits())
  out = jax.jit(plain.loss)(params, carry, bits(), KEY, step)
  reconstruction = float(out.metrics["elbo"].value + out.metrics["kl"].value)
  assert float(out.loss) == pytest.approx(-reconstruction, rel=1e-5)
  assert out.metrics["kl"].value > 0


def test_beta_rises_and_free_bits_are_free():
  batch, model = bits(), small()
  params, carry = some_parameters(model, batch)

  def loss(model, step):
    return float(model.loss(params, carry, batch, KEY, jnp.asarray(step)).loss)

  kl = float(model.loss(params, carry, batch, KEY, jnp.zeros((), int)).metrics["kl"].value)
  warm = small(warmup_steps=9)
  assert loss(warm, 0) == pytest.approx(loss(model, 0) - 0.9 * kl, rel=1e-4)
  assert loss(warm, 9) == pytest.approx(loss(model, 0), rel=1e-5)
  free = small(free_bits=50.0)
  assert loss(free, 0) == pytest.approx(loss(model, 0) - kl + 100.0, rel=1e-4)
  assert free.objectives[0].whole_batch


def test_a_conditional_model_is_given_labels_everywhere():
  spec = DataSpec((4,), 2, num_classes=3)
  model = small(spec, class_conditional=True)
  batch = {**bits(), "y": np.arange(16) % 3}
  params, carry = some_parameters(model, batch)
  found = [model.log_likelihood(params, carry, {**batch, "y": np.full(16, label)}, KEY) for label in (0, 1)]
  assert found[0].given == ("y",) and not np.allclose(found[0].nats, found[1].nats)
  assert model.sample(params, carry, KEY, 3, condition=jnp.array([0, 1, 2])).x.shape == (3, 4)
  z = model.encode(params, carry, batch, KEY)
  assert model.decode(params, carry, z, KEY, condition=jnp.asarray(batch["y"])).shape == (16, 4)
  with pytest.raises(SpecError, match="condition must be labels"):
    model.sample(params, carry, KEY, 3)
  with pytest.raises(SpecError, match="the batch must have labels"):
    model.log_likelihood(params, carry, bits(), KEY)


def test_a_prior_that_is_a_model_is_trained_with_the_whole():
  model = small(prior={"name": "maf", "num_layers": 1, "hidden": (4,)})
  params, carry = some_parameters(model, bits())
  assert model.objectives[0].groups == ("encoder", "decoder", "prior_model")
  slopes = jax.jit(jax.grad(lambda params: model.loss(params, carry, bits(), KEY, jnp.zeros((), int)).loss))(params)
  assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(slopes["prior_model"]["bijection"]))


def test_a_posterior_that_ignores_the_data_is_told():
  model = small()
  assert "posterior collapse: 0 latents" in model.verdict({"active_units": 0.0})
  assert model.verdict({"active_units": 2.0}) == "" and model.verdict({}) == ""
  params, carry = model.init(KEY, bits())
  params["encoder"]["network"] = jax.tree.map(jnp.zeros_like, params["encoder"]["network"])
  assert float(model.loss(params, carry, bits(), KEY, jnp.zeros((), int)).metrics["active_units"].value) == 0.0


@pytest.mark.parametrize(("fields", "error", "words"), [
    ({"num_samples": 0}, ConfigError, "num_samples is 0"),
    ({"num_samples": 2, "beta": 0.5}, ConfigError, "no KL to be weighed"),
    ({"latent_dims": 0}, ConfigError, "latent_dims is 0"),
    ({"class_conditional": True}, SpecError, "no labels"),
    ({"output": {"name": "gaussian"}}, SpecError, "continuous data"),
    ({"prior": {"name": "nade"}}, SpecError, "needs discrete data"),
    ({"prior": {"name": "nomral"}}, ConfigError, r"prior\.name is 'nomral'; did you mean 'normal'"),
    ({"gradient": "doubly_reparametrized", "posterior": {"name": "iaf"}}, ConfigError, "needs log q at given latents"),
    ({"likelihood": "annealing"}, ConfigError, "did you mean 'annealed'")])
def test_what_cannot_be_is_refused(fields, error, words):
  with pytest.raises(error, match=words):
    small(**fields)


def test_wrong_shapes_and_settings_are_named():
  model = small()
  params, carry = model.init(KEY, bits())
  with pytest.raises(SpecError, match=r"must be \(batch, 2\)"):
    model.decode(params, carry, jnp.zeros((3, 5)), KEY)
  with pytest.raises(ConfigError, match="no setting 'temperatures'"):
    model.scored_by("annealed", temperatures=3)
  with pytest.raises(ConfigError, match=r"model\.decoder made an array"):
    VAE(BITS, latent_dims=2, encoder=PerceptronEncoder((4,)), decoder=Wrong()).init(KEY, bits())
  assert VAE(BITS, encoder=PerceptronEncoder((4,)), decoder=PerceptronDecoder((4,)),
             posterior=InverseAutoregressive()).noise_dims == 32


class Wrong(Linear):
  """A decoder of the wrong shape."""

  @nn.compact
  def __call__(self, x, context=None):
    return nn.Dense(3)(x)
