"""GANs: their critic's optimum, their penalties and statistics, what they make and what they refuse."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.small_models import small_model

from gdm.adversarial.gan import GAN
from gdm.adversarial.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator
from gdm.adversarial.networks.perceptrons import PerceptronCritic
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

KEY = jax.random.key(0)
PLANE, IMAGES = DataSpec((2,), None), DataSpec((9, 8, 1), 7, num_classes=3)


class Shift(nn.Module):
  """A generator that moves its latents."""

  event: tuple[int, ...] = (2,)
  by: float = 0.0

  @nn.compact
  def __call__(self, z, labels=None, train=False):
    return z + self.by + 0.0 * self.param("unused", nn.initializers.zeros, ())


class LinearCritic(nn.Module):

  @nn.compact
  def __call__(self, x, labels=None, train=False):
    return nn.Dense(1)(x)[:, 0]


class Difference(nn.Module):
  """A critic of pairs: how much larger the first is."""

  @nn.compact
  def __call__(self, x, labels=None, train=False):
    return (x[:, 0] - x[:, 1]) * self.param("scale", nn.initializers.ones, ())


def image_batch(num=12):
  rng = np.random.default_rng(0)
  return {"x": rng.integers(0, 7, (num, *IMAGES.event)).astype(np.uint8), "y": rng.integers(0, 3, num)}


def trained(model, batches, rate=1e-2):
  """The state after a step on each batch [steps, batch, ...], and the metrics of the last."""
  optimizers = optimizers_for(model, optax.adam(rate))
  state = init_state(model, optimizers, KEY, {name: values[0] for name, values in batches.items()})
  step, repeats = make_train_step(model, optimizers), sum(objective.repeats for objective in model.objectives)

  @jax.jit
  def run(state, batches):
    def body(state, batch):
      return step(state, jax.tree.map(lambda x: jnp.broadcast_to(x, (repeats, *x.shape)), batch), KEY)
    return jax.lax.scan(body, state, batches)

  state, metrics = run(state, batches)
  return state, {name: float(mean.total[-1] / mean.weight[-1]) for name, mean in metrics.items()}


def test_the_critic_learns_the_log_ratio_of_densities():
  # Of N((1, 1), 1) over N((0, 0), 1) it is x_1 + x_2 - 1.
  x = 1.0 + np.random.default_rng(0).normal(size=(300, 500, 2)).astype(np.float32)
  model = GAN(PLANE, latent_dims=2, generator=Shift(), critic=LinearCritic())
  state, _ = trained(model, {"x": x}, 2e-2)
  dense = state.params["critic"]["Dense_0"]
  np.testing.assert_allclose(dense["kernel"][:, 0], 1.0, atol=0.15)
  np.testing.assert_allclose(dense["bias"], -1.0, atol=0.15)


def test_the_energy_score_of_a_normal_is_known():
  # CRPS of N(0, 1) at 0 is 2 / sqrt(2 pi) - 1 / sqrt(pi) (Gneiting and Raftery, 2007, equation 21).
  model = GAN(DataSpec((1,), None), latent_dims=1, generator=Shift((1,)), critic=LinearCritic())
  params, carry = model.init(KEY, {"x": np.zeros((4, 1), np.float32)})
  scores = jax.jit(model.validate)(params, carry, {"x": np.zeros((3, 1), np.float32)}, KEY)["energy_score"]
  np.testing.assert_allclose(scores, 2.0 / np.sqrt(2.0 * np.pi) - 1.0 / np.sqrt(np.pi), atol=0.05)


def test_packs_are_of_neighbours():
  x = np.array([[1.0], [0.0], [5.0], [2.0]], np.float32)
  model = GAN(DataSpec((1,), None), latent_dims=1, generator=Shift((1,)), critic=Difference(), pac=2)
  params, carry = model.init(KEY, {"x": x})
  out = model.critic_loss(params, carry, {"x": x}, KEY, jnp.zeros((), jnp.int32))
  assert float(out.metrics["real"].value) == 2.0  # (1 + 3) / 2


@pytest.mark.parametrize("pac", [1, 2])
def test_integers_come_back_from_where_they_are_seen(pac):
  model = GAN(IMAGES, latent_dims=4, critic=PerceptronCritic((4,)), pac=pac)
  x = image_batch()["x"]

  class Fixed(nn.Module):
    """A generator of the data, before the hyperbolic tangent."""

    event: tuple[int, ...] = IMAGES.event

    @nn.compact
    def __call__(self, z, labels=None, train=False):
      return jnp.arctanh(2.0 * (x + 0.5) / 7 - 1.0)[:len(z)] + 0.0 * self.param("unused", nn.initializers.zeros, ())

  model = dataclasses.replace(model, generator=Fixed())
  params, carry = model.init(KEY, {"x": x})
  np.testing.assert_array_equal(model.sample(params, carry, KEY, len(x)).x, x)


@pytest.mark.slow
def test_clipped_weights_stay_within_their_bound():
  model = GAN(PLANE, latent_dims=2, critic=PerceptronCritic((8,)), loss="wasserstein", clip=0.05, critic_steps=3)
  state, _ = trained(model, {"x": np.ones((2, 8, 2), np.float32)})
  largest = {group: max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(tree))
             for group, tree in state.params.items()}
  assert largest["critic"] <= np.float32(0.05) < largest["generator"]


@pytest.mark.slow
def test_samples_do_not_depend_on_their_batch_and_statistics_are_of_training():
  critic = ConvolutionalCritic(4, normalization="batch")
  model = GAN(IMAGES, latent_dims=4, generator=ConvolutionalGenerator(4), critic=critic)
  batch = image_batch()
  state, _ = trained(model, {name: np.stack([values] * 3) for name, values in batch.items()})
  first = jax.jit(model.init)(KEY, batch)[1]
  for name in ("generator", "critic"):
    before, after = (jax.tree.leaves(carry["statistics"][name]) for carry in (first, state.carry))
    assert any(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(before, after, strict=True))
  z = model.prior_latents(state.params, KEY, 6)
  decode = jax.jit(model.decode)
  together, alone = (decode(state.params, state.carry, latents, KEY) for latents in (z, z[:2]))
  np.testing.assert_array_equal(together[:2], alone)
  assert together.dtype == np.int32 and together.min() >= 0 and together.max() < 7


def test_a_label_changes_what_a_latent_becomes():
  model = small_model("conditional_gan")
  rng = np.random.default_rng(0)
  batch = {"x": rng.integers(0, 3, (4, *model.spec.event)).astype(np.uint8), "y": np.arange(4) % 2}
  params, carry = jax.jit(model.init)(KEY, batch)
  params = jax.tree.map(lambda p: p * 3.0, params)
  z = model.prior_latents(params, KEY, 5)
  one, other = (model.decode(params, carry, z, KEY, condition=jnp.full(5, label)) for label in (0, 1))
  assert np.any(one != other)
  with pytest.raises(SpecError, match="condition must be labels"):
    model.sample(params, carry, KEY, 3)


@pytest.mark.parametrize("critic", [PerceptronCritic((6, 6), normalization="spectral"),
                                    ConvolutionalCritic(2, normalization="spectral")])
def test_kernels_are_divided_by_their_largest_singular_value(critic):
  x = jax.random.normal(KEY, (3, 4, 4, 1))
  variables = critic.init(KEY, x)
  apply = jax.jit(lambda variables: critic.apply(variables, x, train=True, mutable=["batch_stats"])[1])
  for _ in range(50):
    variables = {**variables, **apply(variables)}
  statistics, params = variables["batch_stats"], variables["params"]
  found = {path.split("/")[0]: float(value) for entry in statistics.values() for path, value in entry.items()
           if path.endswith("sigma")}
  for name, sigma in found.items():
    kernel = np.asarray(params[name]["kernel"])
    np.testing.assert_allclose(sigma, np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]))[1][0], rtol=1e-3)
  assert len(found) == len(params)


@pytest.mark.parametrize("options, error, words", [
    ({"pac": 5}, ConfigError, "pac is 5, which does not divide the minibatch of 12"),
    ({"pac": 13}, ConfigError, "only 12 examples"),
    ({"pac": 2, "critic": PerceptronCritic(labels="projection")}, ConfigError, "several labels"),
    ({"loss": "wassserstein"}, ConfigError, "did you mean 'wasserstein'"),
    ({"loss": "hinge", "label_flips": 0.1}, ConfigError, "which has no labels"),
    ({"critic_steps": 0}, ConfigError, "critic_steps is 0"),
    ({"clip": -1.0}, ConfigError, "clip is -1.0"),
    ({"gradient_penalty": 1.0, "critic": ConvolutionalCritic(4, normalization="batch")}, ConfigError,
     "critic.normalization is batch"),
    ({"r1": 1.0, "critic": PerceptronCritic((4,), normalization="batch")}, ConfigError, "normalization is batch"),
    ({"critic": Difference()}, ConfigError, "the network critic makes"),
])
def test_what_cannot_be_trained_is_refused(options, error, words):
  with pytest.raises(error, match=words):
    trained(GAN(IMAGES, latent_dims=2, **options), {name: values[None] for name, values in image_batch().items()})


def test_data_that_does_not_fit_is_refused():
  with pytest.raises(SpecError, match="no labels"):
    GAN(PLANE, class_conditional=True)
  with pytest.raises(SpecError, match="its range is not known"):
    GAN(PLANE).init(KEY, {"x": np.zeros((4, 2), np.uint8)})
  with pytest.raises(SpecError, match="needs images"):
    GAN(PLANE, generator=ConvolutionalGenerator()).init(KEY, {"x": np.zeros((4, 2), np.float32)})
  model = GAN(PLANE, latent_dims=2)
  params, carry = model.init(KEY, {"x": np.zeros((4, 2), np.float32)})
  with pytest.raises(SpecError, match=r"must be \(batch, 2\)"):
    model.decode(params, carry, jnp.zeros((3, 5)), KEY)
