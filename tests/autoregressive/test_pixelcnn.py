"""PixelCNN: exact, causal but for a blind spot, and the same whether in one pass or pixel by pixel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, log_probs, states_of
from image_models import (
    assert_every_parameter_moves,
    assert_samples_are_the_naive_ones,
    by_steps,
    dependence,
    in_one_pass,
    moved_from_start,
    some,
    train,
)

from configs.autoregressive import pixelcnn as pixelcnn_config
from gdm.autoregressive.pixelcnn import PixelCNN
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.model import HasComplete, HasConditionals, HasLogLikelihood, HasSample, Model

KEY = jax.random.key(0)
GREY = DataSpec((2, 2, 1), 4)
COLOUR = DataSpec((2, 2, 3), 2)
LARGER = DataSpec((4, 5, 1), 5)
LARGER_COLOUR = DataSpec((3, 4, 3), 3)
FIELDS = {"width": 6, "num_blocks": 2, "first_size": 3, "head_width": 6, "located": True}
each_space = pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
each_image = pytest.mark.parametrize("spec", [LARGER, LARGER_COLOUR], ids=["grey", "colour"])


@functools.lru_cache
def build(spec, **fields):
  model = PixelCNN(spec, **{**FIELDS, **fields})
  return model, *moved_from_start(model)


def test_is_a_model_of_known_capabilities():
  for protocol in (Model, HasLogLikelihood, HasSample, HasComplete, HasConditionals):
    assert isinstance(build(GREY)[0], protocol)


@each_space
def test_sums_to_one_and_samples_match(spec):
  assert_sums_to_one(*build(spec))
  assert_samples_match(*build(spec), jax.random.key(2), num=10_000)


@each_space
def test_each_conditional_sums_to_one_and_their_product_is_the_joint(spec):
  model, params, carry = build(spec)
  states = jnp.asarray(states_of(spec))
  steps = np.asarray(jax.nn.log_softmax(by_steps(model, params, states)))
  np.testing.assert_allclose(np.exp(steps).sum(-1), 1.0, rtol=1e-5)
  joint = np.take_along_axis(steps, np.asarray(states).reshape(len(states), -1, 1), -1)[..., 0].sum(-1)
  np.testing.assert_allclose(joint, log_probs(model, params, carry, states), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("spec", "num_known"), [(GREY, 2), (COLOUR, 5)])
def test_completions_match_the_enumerated_conditionals(spec, num_known):
  known = (np.arange(spec.num_dims) < num_known).reshape(spec.event)
  assert_completions_match(*build(spec), jax.random.key(3), np.ones(spec.event, int), known, 5000)
  with pytest.raises(SpecError, match=f"position {num_known} is known, but position 0 is not"):
    model, params, carry = build(spec)
    model.complete(params, carry, KEY, np.zeros((1, *spec.event), int), ~known)


@each_image
def test_steps_give_the_logits_of_one_pass(spec):
  model, params, _ = build(spec, first_size=5)
  x = some(spec)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


def visible(event, first_reach, other_reach):
  """Which values [output, input] those in one pixel may depend on: a row further up, `other_reach` further right."""
  row, column, channel = (axis.ravel() for axis in np.indices(event))
  up, right = row[:, None] - row, column - column[:, None]
  before = (up > 0) & (right <= first_reach + (up - 1) * other_reach) | (up == 0) & (right < 0)
  return before | (up == 0) & (right == 0) & (channel[:, None] > channel)


@each_image
@pytest.mark.parametrize("num_steps", [0, 3])
def test_logits_depend_on_what_comes_before_but_for_the_blind_spot(spec, num_steps):
  model, params, carry = build(spec, width=24, head_width=24, num_blocks=5)
  params = train(model, params, carry, num_steps)
  seen = dependence(model, params, some(spec, 6)) > 0
  np.testing.assert_array_equal(seen, visible(spec.event, 1, 1))
  before = np.tri(spec.num_dims, k=-1, dtype=bool)
  assert not (seen & ~before).any()
  assert (before & ~seen).any(), "the blind spot has gone: say so where the model is described"


@each_image
def test_every_parameter_moves_but_those_of_masked_channels(spec):
  model = PixelCNN(spec, dropout=0.1, **{**FIELDS, "width": 24, "head_width": 24})
  masks = {"first": "A", "narrow": "B", "convolution": "B", "widen": "B", "hidden": "B", "readout": "B"}
  taps = {**dict.fromkeys(masks, 1), "first": 4 + (spec.event[-1] > 1), "convolution": 5}
  assert_every_parameter_moves(model, masks, taps)


def test_dropout_is_of_training_alone():
  model, params, carry = build(LARGER)
  noisy, _, _ = build(LARGER, dropout=0.5)
  batch = {"x": some(LARGER)}
  loss = jax.jit(lambda key: noisy.loss(params, carry, batch, key, jnp.int32(0)).loss)
  assert loss(jax.random.key(0)) != loss(jax.random.key(1))
  np.testing.assert_array_equal(log_probs(noisy, params, carry, batch["x"]),
                                log_probs(model, params, carry, batch["x"]))


@each_image
def test_cached_samples_are_those_of_the_naive_path(spec):
  assert_samples_are_the_naive_ones(*build(spec))


@pytest.mark.parametrize("levels", [2, 4, 17, 256])
def test_levels_of_all_kinds(levels):
  model, params, carry = build(DataSpec((3, 3, 1), levels))
  x = some(model.spec)
  assert np.isfinite(log_probs(model, params, carry, x)).all()
  assert jax.eval_shape(lambda: in_one_pass(model, params, x)).shape == (16, 9, levels)


@pytest.mark.parametrize(("spec", "fields", "error", "message"), [
    (DataSpec((4, 4, 1), None), {}, SpecError, "PixelCNN needs discrete data"),
    (DataSpec((16,), 4), {}, SpecError, r"needs images .* spec.event is \(16,\)"),
    (GREY, {"first_size": 7}, ConfigError, "first_size is 7, which reaches beyond images of 2 x 2; .* at most 3"),
    (GREY, {"kernel_size": 4}, ConfigError, "kernel_size is 4; it must be odd"),
    (GREY, {"num_blocks": 0}, ConfigError, "num_blocks is 0"),
    (COLOUR, {"width": 8}, ConfigError, "width is 8; it must be a multiple of the image's 3 channels"),
    (COLOUR, {"head_width": 8}, ConfigError, "head_width is 8"),
    (GREY, {"dropout": 1.0}, ConfigError, r"dropout is 1.0; a dropout rate lies in \[0, 1\)"),
])
def test_fields_that_cannot_be(spec, fields, error, message):
  with pytest.raises(error, match=message):
    PixelCNN(spec, **{**FIELDS, **fields})


@pytest.mark.parametrize(("variant", "spec"), [("digits", DataSpec((8, 8, 1), 17)), ("npz", LARGER),
                                               ("binarized_mnist", DataSpec((28, 28, 1), 2)),
                                               ("cifar10", DataSpec((32, 32, 3), 256))])
def test_config_names_all_fields(variant, spec):
  settings = pixelcnn_config.get_config(variant).model.to_dict()
  assert settings.pop("name") == "pixelcnn"
  model = PixelCNN(spec, **settings)
  assert set(settings) == {name for name in vars(model) if name != "spec"}
  with pytest.raises(ConfigError, match="did you mean 'digits'"):
    pixelcnn_config.get_config("digit")
