"""A U-Net that reads captions: what fills them up says nothing, and none is zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.batches import given
from gdm.dataspec import DataSpec
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.networks.denoising_mlp import DenoisingMLP
from gdm.diffusion.networks.unet import UNet
from gdm.diffusion.paths.variance_preserving import Cosine
from gdm.errors import ConfigError, SpecError

SPEC = DataSpec((4, 4, 1), 4, num_classes=3, prefix_steps=3, prefix_levels=5)
KEY = jax.random.key(0)
WORDS = jnp.array([[1, 2, 0], [2, 1, 0], [3, 0, 0], [0, 0, 0]])


def built(**fields):
  return Diffusion(SPEC, Cosine(), network=UNet(width=8, multipliers=(1,), num_blocks=1, word_width=4), **fields)


def made(**fields):
  model = built(**fields)
  batch = {"x": jnp.zeros((4, 4, 4, 1), jnp.int32), "prefix": WORDS, "y": jnp.zeros(4, jnp.int32)}
  params, carry = jax.jit(model.init)(KEY, batch)
  keys = iter(jax.random.split(jax.random.key(1), 200))
  return model, jax.tree.map(lambda leaf: 0.3 * jax.random.normal(next(keys), leaf.shape), params), carry


def predicted(model, params, prefix):
  x = jnp.tile(jax.random.normal(KEY, (1, 4, 4, 1)), (1 if prefix is None else len(prefix), 1, 1, 1))
  path = model.noise_path(params)
  predict = jax.jit(lambda x, context: model.predict(params, path, x, jnp.full(len(x), 0.5), context))
  return np.asarray(predict(x, None if prefix is None else jnp.asarray(prefix, jnp.float32)))


@pytest.mark.slow
def test_words_and_their_order_matter_and_no_caption_is_zeros():
  model, params, _ = made()
  by_words = predicted(model, params, WORDS)
  for one, other in ((0, 1), (0, 2), (2, 3)):
    assert np.abs(by_words[one] - by_words[other]).max() > 1e-3
  np.testing.assert_allclose(predicted(model, params, None)[0], by_words[3], atol=1e-5)
  assert given(model) == ("prefix",)


@pytest.mark.slow
def test_guidance_by_captions_needs_some_withheld():
  model, params, carry = made(label_dropout=0.2, class_conditional=True)
  condition = {"prefix": np.array([1, 2, 0]), "y": 1}
  plain, guided = (np.asarray(model.sample(params, carry, KEY, 8, condition, num_steps=3, guidance=guidance).x)
                   for guidance in (1.0, 3.0))
  assert plain.shape == (8, 4, 4, 1) and (plain != guided).any()
  assert model.prefix_optional
  np.testing.assert_array_equal(  # what is missing is none
      model.sample(params, carry, KEY, 8, {"y": 1}, num_steps=3).x,
      model.sample(params, carry, KEY, 8, {"y": 1, "prefix": np.zeros(3, np.int32)}, num_steps=3).x)
  sure, params, carry = made()
  with pytest.raises(ConfigError, match=r"guidance is 2.0, which needs labels"):
    sure.sample(params, carry, KEY, 8, {"prefix": WORDS[0]}, guidance=2.0)
  with pytest.raises(SpecError, match="conditional on prefix; condition must be prefixes"):
    sure.sample(params, carry, KEY, 8)


def test_training_withholds_captions_and_labels_independently():
  model = built(label_dropout=0.3, class_conditional=True)
  context = jnp.ones((4000, 3 + 3))
  kept = np.asarray(model._dropped(context, KEY))
  prefix, labels = kept[:, 0], kept[:, -1]
  np.testing.assert_allclose([prefix.mean(), labels.mean(), (prefix * labels).mean()], [0.7, 0.7, 0.49], atol=0.03)
  assert (kept[:, :3] == prefix[:, None]).all() and (kept[:, 3:] == labels[:, None]).all()


def test_a_network_without_words_leaves_the_prefix_alone():
  model = Diffusion(DataSpec((3,), None, prefix_steps=3, prefix_levels=5), Cosine(), network=DenoisingMLP())
  assert given(model) == () and not model.prefix_optional
