"""Models mixed token by token: a distribution, the same in one pass and in steps, and drawn from as such."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, log_probs, states_of

from gdm.autoregressive.images.image_model import ImageModel
from gdm.autoregressive.images.pixelcnn import PixelCNN
from gdm.autoregressive.images.row_lstm import RowLSTM
from gdm.autoregressive.sequences.recurrent import Recurrent
from gdm.autoregressive.sequences.sequence_model import SequenceModel
from gdm.autoregressive.token_ensemble import TokenEnsemble
from gdm.autoregressive.vectors.made import MADE
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.model import Model
from gdm.submodels import params_of

IMAGE = DataSpec((2, 2, 1), 3)
LABELLED = DataSpec((3,), 3, num_classes=2)
WEIGHTS = (3.0, 1.0)


def images(spec=IMAGE):
  sizes = {"width": 4, "first_size": 3, "head_width": 4}
  return (ImageModel(spec, PixelCNN(num_blocks=1, **sizes)), ImageModel(spec, RowLSTM(num_layers=1, **sizes)))


def sequences(class_conditional=False, spec=LABELLED):
  return tuple(SequenceModel(spec, Recurrent(width=width, num_layers=1), class_conditional=class_conditional)
               for width in (3, 5))


def random(components: tuple[Model, ...], weights=WEIGHTS):
  """An ensemble and parameters that are far from equal probabilities."""
  model = TokenEnsemble(components[0].spec, components, weights)
  params, carry = model.init(jax.random.key(0), {"x": jnp.zeros((1, *model.spec.event), jnp.int32)})
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [leaf + 0.7 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
  return model, jax.tree.unflatten(tree, moved), carry


def test_probabilities_of_images_sum_to_one_and_draws_and_completions_have_them():
  model, params, carry = random(images())
  assert_sums_to_one(model, params, carry)
  assert_samples_match(model, params, carry, jax.random.key(2))
  known = np.array([True, True, False, False]).reshape(2, 2, 1)
  assert_completions_match(model, params, carry, jax.random.key(3), np.array([2, 0, 0, 0]).reshape(2, 2, 1), known)


def test_a_conditional_is_the_weighted_mean_of_the_components_conditionals():
  model, params, _ = random(images())
  x = jnp.asarray(states_of(IMAGE).reshape(-1, 4))
  each = [np.exp(jax.nn.log_softmax(component.logits(params_of(params, f"{index}/"), x)))
          for index, component in enumerate(model.tokens)]
  np.testing.assert_allclose(np.exp(model.logits(params, x)), 0.75 * each[0] + 0.25 * each[1], rtol=1e-4)


def test_steps_equal_one_pass():
  model, params, _ = random(images())
  x = jnp.asarray(states_of(IMAGE).reshape(-1, 4))
  cache, previous = model.init_cache(params, len(x)), jnp.zeros(len(x), jnp.int32)
  whole = model.logits(params, x)
  for index in range(4):
    cache, logits = model.conditional_step(params, cache, previous, jnp.asarray(index))
    np.testing.assert_allclose(logits, whole[:, index], atol=1e-4)
    previous = x[:, index]


def test_it_is_no_mixture_of_whole_examples():
  """The same models, mixed as whole images, are another distribution."""
  model, params, carry = random(images(), ())
  whole = np.logaddexp.reduce([log_probs(component, params_of(params, f"{index}/"), {}, states_of(IMAGE))
                               for index, component in enumerate(model.tokens)]) - np.log(2.0)
  assert np.abs(whole - log_probs(model, params, carry, states_of(IMAGE))).max() > 0.01


@pytest.mark.slow
def test_given_labels_it_sums_to_one_under_each_and_draws_what_was_asked():
  model, params, carry = random(sequences(class_conditional=True))
  assert model.class_conditional and model.given == ("y",)
  x = jnp.asarray(states_of(LABELLED))
  for label in (0, 1):
    batch = {"x": x, "y": jnp.full(len(x), label)}
    probs = np.exp(model.log_likelihood(params, carry, batch, jax.random.key(0)).nats)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-4)
    drawn = np.asarray(model.sample(params, carry, jax.random.key(label), 20_000, jnp.asarray(label)).x)
    shares = np.bincount(drawn @ [9, 3, 1], minlength=27) / len(drawn)
    np.testing.assert_allclose(shares, probs, atol=0.02)


def test_prompts_are_continued():
  model, params, _ = random(sequences(spec=DataSpec((3,), 3)))
  out = model.generate(params, jax.random.key(0), prompt=np.array([[2, 1], [0, 2]]))
  assert out.tokens.shape == (2, 3)
  np.testing.assert_array_equal(out.tokens[:, :2], [[2, 1], [0, 2]])


@pytest.mark.parametrize("components, words", [
    ((images()[0], MADE(IMAGE)), r"model\.components\[1\], MADE, does not go through its values in raster order"),
    ((images()[0], *images(DataSpec((2, 2, 1), 4))), r"model\.components\[1\], ImageModel, models"),
    ((sequences()[0], sequences(class_conditional=True)[1]),
     r"model\.components\[1\], SequenceModel, is given \('y',\)"),
    ((), r"model\.components is empty"),
])
def test_what_cannot_be_mixed_is_refused(components, words):
  with pytest.raises(SpecError, match=words):
    TokenEnsemble(components[0].spec if components else IMAGE, components)


def test_weights_that_are_none_are_refused():
  with pytest.raises(SpecError, match=r"model\.weights is \(1\.0,\); it must be \(\) or 2 positive numbers"):
    TokenEnsemble(IMAGE, images(), (1.0,))
